"""Questions about a prompt, and how the answers to several become one score."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from verifiers.function import source_hash

Questions = Callable[[str], Sequence[str]] | Mapping[str, Sequence[str]] | Sequence[str]
COMBINATIONS = ("mean", "product")


class Asked:
    """What is asked about a prompt: the prompt in templates, or questions made for it.

    Attributes:
        label: what identifies the questions in a version.
    """

    def __init__(self, questions: Questions) -> None:
        """Take the questions.

        Args:
            questions: templates with "{}" where the prompt goes; or a mapping or a function from the prompt to its
                questions. A function is identified by its `version`, where it has one, else by its name and its
                source, which cannot show the values it closes over: give it a `version` where those change questions.

        Raises:
            TypeError: a single string.
            ValueError: no templates, or one without "{}".
        """
        if isinstance(questions, str):
            raise TypeError(f"questions is the single string {questions!r}; expected several: pass [{questions!r}]")
        self._questions = questions
        if callable(questions):
            name = getattr(questions, "__qualname__", type(questions).__name__)
            self.label = str(getattr(questions, "version", None) or f"{name}-{source_hash(questions)}")
            return
        if not isinstance(questions, Mapping):
            for template in questions:
                check_template(template)
            if not questions:
                raise ValueError("questions is empty; expected at least one template such as 'Is there {}?'")
        plain = {k: list(v) for k, v in questions.items()} if isinstance(questions, Mapping) else list(questions)
        self.label = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]

    def about(self, prompt: str) -> list[str]:
        """The questions about one prompt.

        Raises:
            KeyError: a mapping without that prompt.
            ValueError: no questions about it.
        """
        if callable(self._questions):
            found = self._questions(prompt)
        elif isinstance(self._questions, Mapping):
            if prompt not in self._questions:
                raise KeyError(f"no questions about prompt {prompt!r}; expected them in the mapping: add an entry")
            found = self._questions[prompt]
        else:
            return [fill(template, prompt) for template in self._questions]
        if isinstance(found, str) or not found:
            raise ValueError(f"questions about prompt {prompt!r} are {found!r}; expected a list of at least one")
        return list(found)


def combine(log_odds: Float[Tensor, " question"], how: str) -> Float[Tensor, ""]:
    """Mean or product of P(yes) = sigmoid(log-odds) over the questions about one image, in [0, 1].

    The mean is Soft-TIFA's arithmetic one (2512.16853); the product asks for all of them at once.
    """
    return logsigmoid(log_odds).sum().exp() if how == "product" else log_odds.sigmoid().mean()


def check_template(template: str) -> None:
    """Raise ValueError unless the prompt has exactly one place in the template."""
    if template.count("{}") != 1:
        raise ValueError(f"question {template!r} has {template.count('{}')} places '{{}}' for the prompt; expected one")


def fill(template: str, prompt: str) -> str:
    """The template with the prompt in its place; braces in the prompt stay as they are."""
    return template.replace("{}", prompt)
