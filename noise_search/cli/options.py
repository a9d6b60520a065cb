"""What people type and what they are told: options that commands share, and NAME=VALUE for algorithms and verifiers."""

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

import typer

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image as PILImage

    from noise_search.algorithms.base import SearchAlgorithm
    from noise_search.prompt_sets import PromptSet
    from noise_search.resolve import Named
    from samplers.pipelines.pictures import Picture

FAILED, INTERRUPTED = 1, 130


@dataclass(frozen=True)
class Said:
    """How a command ends: what it prints, text or what JSON shows; lines for standard error; the exit code."""

    content: str | Mapping[str, Any]
    notes: Sequence[str] = ()
    code: int = 0


class Format(StrEnum):
    """How a command prints."""

    human = "human"
    json = "json"


Printed = Annotated[Format, typer.Option("--format", help="Text for people, or JSON on standard output.")]
Model = Annotated[str, typer.Option(help="Embedded model, saved pipeline's directory, or hub id.")]
VerifierOptions = Annotated[
    list[str] | None,
    typer.Option(help="Option of a verifier or judge, such as clip.output=cosine; may be repeated."),
]
Ensemble = Annotated[str, typer.Option(help="How several verifiers are combined: mean-z, min-z or mean-rank.")]
Judges = Annotated[
    str | None, typer.Option(help="Held-out judges with commas, or 'none'; the model's oracle by default.")
]
Steps = Annotated[int | None, typer.Option(help="Denoising steps of a trajectory.")]
DraftSteps = Annotated[
    str | None,
    typer.Option(help="Search with so many steps, or with these of them (0,4,8,12,16), render the best in full."),
]
DraftRenders = Annotated[int | None, typer.Option(help="Noises to render in full after the drafts.")]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale.")]
Height = Annotated[int | None, typer.Option(help="Height in pixels.")]
Width = Annotated[int | None, typer.Option(help="Width in pixels.")]
Calibration = Annotated[Path | None, typer.Option(help="File of what `calibrate` measured.")]
Prior = Annotated[Path | None, typer.Option(help="File of what `learn_prior` learned of seeds.")]
BatchSize = Annotated[int | None, typer.Option(help="Candidates per micro-batch.")]
Workers = Annotated[
    str | None,
    typer.Option(help="Processes that make the images: how many, a device for each with commas, ray, ray://HOST:PORT."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, and of what was found only where it is.")]
Preview = Annotated[
    str | None,
    typer.Option(help="Small decoder of looks: taesd, or the directory or hub id of an AutoencoderTiny."),
]
Log = Annotated[
    str | None, typer.Option(help="Follow it in wandb, trackio or tensorboard: each prompt of a search is a run.")
]
Device = Annotated[str | None, typer.Option(help="Device to load the model on.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")]
Image = Annotated[
    list[Path] | None, typer.Option(help="Image that the pipeline takes; may be repeated where it takes several.")
]
Mask = Annotated[Path | None, typer.Option(help="Mask of an inpainting pipeline, white where it paints.")]
ControlImage = Annotated[
    list[Path] | None, typer.Option(help="Image that a ControlNet follows; may be repeated for several.")
]
Strength = Annotated[float | None, typer.Option(help="How far image to image leaves the image, 0 to 1.")]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(help="Another argument of the pipeline's call, such as guidance_rescale=0.7; may be repeated."),
]
Lora = Annotated[
    list[str] | None,
    typer.Option(help="LoRA, PATH_OR_HUB_ID[:SCALE], such as ink.safetensors:0.8; may be repeated."),
]
Offload = Annotated[
    str | None, typer.Option(help="Keep on the CPU until their turn: model (parts), group or sequential (layers).")
]
Variant = Annotated[str | None, typer.Option(help="Variant of the model's weights, such as fp16.")]
Compile = Annotated[
    str | None, typer.Option(help="Compile the denoiser: whole, or regional (its repeated blocks; starts sooner).")
]
Revision = Annotated[str | None, typer.Option(help="Commit, tag or branch of a model of the hub.")]


def names(text: str) -> list[str]:
    """What stands between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


_SUCH = {
    "budgets": "80,320",
    "candidates": "4,16",
    "seeds": "3, how many, or 0,1000",
    "draft-steps": "6, how many, or 0,4,8",
    "looks": "4,6,8",
}


def numbers(text: str | None, name: str) -> list[int] | None:
    """Whole numbers with commas between, None for None.

    Raises:
        ValueError: something else.
    """
    if text is None:
        return None
    try:
        return [int(one) for one in text.split(",") if one.strip()]
    except ValueError:
        raise ValueError(f"{name} {text!r} must be whole numbers with commas between, such as {_SUCH[name]}") from None


def workers(text: str | None) -> int | str | list[str] | None:
    """How many, "ray" or the address of its cluster, or devices with commas between."""
    if text is None or text.startswith("ray"):
        return text
    return int(text) if text.isdecimal() else names(text)


def many_or_these(text: str, name: str) -> int | list[int]:
    """How many, or several whole numbers with commas between.

    Raises:
        ValueError: something else.
    """
    found = numbers(text, name) or []
    return found[0] if len(found) == 1 and "," not in text else found


def judge_names(asked: str | None, model: str, searched: Sequence[str]) -> list[str]:
    """Judges with commas between; by default an embedded model's oracle, unless it is searched by; none of others."""
    from noise_search.shapes import EMBEDDED_MODELS

    if asked is None:
        return ["oracle"] if model in EMBEDDED_MODELS and not {"oracle", "shapes-oracle"} & {*searched} else []
    return [] if asked == "none" else names(asked)


def _dtype(name: str | None) -> "torch.dtype | None":
    import torch

    from noise_search.words import unknown

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name is not None and name not in known:
        raise unknown("dtype", name, known)
    return None if name is None else known[name]


def prompt_set(asked: str, limit: int | None, per_family: int | None = None) -> "PromptSet":
    """Prompts of a file, a set or a text; that there is no such file is bad input, as an empty one is."""
    from noise_search.prompt_sets import as_prompt_set

    try:
        chosen = as_prompt_set(asked)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(str(error)) from error
    if limit is None and per_family is None:
        return chosen
    return as_prompt_set(chosen, limit=limit, per_family=per_family, seed=0)


@dataclass(frozen=True)
class Loading:
    """Options of every command that opens a model: how it is loaded, and the pictures that its pipeline takes."""

    image: Image = None
    mask: Mask = None
    control_image: ControlImage = None
    device: Device = None
    dtype: Dtype = None
    lora: Lora = None
    offload: Offload = None
    variant: Variant = None
    revision: Revision = None
    compile: Compile = None

    def given(self, model: str | None, **more: Any) -> dict[str, Any]:
        """Arguments of a search for what is asked of the model, and `more` of them; what isn't given is left out.

        Pictures are opened upright, and go by the names that the pipeline has for them.

        Raises:
            ValueError: a picture that can't be opened, or what the model's pipeline doesn't take.
            TypeError: a value of another type.
        """
        names = ("device", "lora", "offload", "variant", "revision", "compile")
        given: dict[str, Any] = {**{name: getattr(self, name) for name in names}, "dtype": _dtype(self.dtype), **more}
        pictures: list[tuple[Picture, Sequence[Path]]] = [
            ("image", self.image or []),
            ("mask", [] if self.mask is None else [self.mask]),
            ("control image", self.control_image or []),
        ]
        opened = [(what, [_picture(file) for file in files]) for what, files in pictures if files]
        strength, assignments = self._call
        if strength is not None and not 0 <= strength <= 1:
            raise ValueError(f"strength={strength:g} must be from 0 to 1")
        if opened or strength is not None or assignments:
            given["model_options"] = _call_options(model, self.revision, opened, strength, assignments)
        return {name: value for name, value in given.items() if value is not None}

    @property
    def _call(self) -> tuple[float | None, Sequence[str]]:
        return None, []


@dataclass(frozen=True)
class OfModel(Loading):
    """And of every command that says how its pipeline is called."""

    strength: Strength = None
    model_option: ModelOption = None

    @property
    def _call(self) -> tuple[float | None, Sequence[str]]:
        return self.strength, self.model_option or []


LOADING, OF_MODEL = Loading(), OfModel()
"""Nothing asked for."""

Command = Callable[..., Said]


def spread(command: Command) -> Command:
    """The command with the fields of arguments that are dataclasses of options in their place, as typer reads them."""
    groups: dict[str, type[Loading]] = {}
    parameters: list[inspect.Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for name, one in inspect.signature(command).parameters.items():
        if isinstance(hints[name], type) and issubclass(hints[name], Loading):
            groups[name] = hints[name]
            of_group = get_type_hints(hints[name], include_extras=True)
            parameters += [
                inspect.Parameter(field.name, one.KEYWORD_ONLY, default=field.default, annotation=of_group[field.name])
                for field in fields(hints[name])
            ]
        else:
            parameters.append(one.replace(kind=one.KEYWORD_ONLY, annotation=hints[name]))

    def gathered(**given: Any) -> Said:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        return command(**given)

    return shaped(gathered, parameters, command)


def shaped(function: Command, parameters: Sequence[inspect.Parameter], command: Command) -> Command:
    """A function that typer takes for one of these parameters, with a command's help."""
    function.__doc__ = command.__doc__
    function.__annotations__ = {one.name: one.annotation for one in parameters}
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def _call_options(
    model: str | None,
    revision: str | None,
    pictures: "Sequence[tuple[Picture, list[PILImage]]]",
    strength: float | None,
    assignments: Sequence[str],
) -> dict[str, Any]:
    from noise_search.models import pipeline_class
    from samplers.pipelines.pictures import picture_argument, takes_list
    from samplers.pipelines.view import parameters

    if model is None:
        raise ValueError("pictures go by the names that a model's pipeline has for them: give --model too")
    kind = pipeline_class(model, revision)
    found: list[tuple[str, Any]] = []
    for what, images in pictures:
        name = picture_argument(kind, what)
        if name is None:
            raise ValueError(f"{kind.__name__} takes no {what}; {_TAKING[what]}")
        found.append((name, images if len(images) > 1 or takes_list(name) else images[0]))
    if strength is not None:
        if "strength" not in parameters(kind):
            raise ValueError(f"{kind.__name__} takes no strength; {_TAKING['image']}")
        found.append(("strength", strength))
    found += [_call_option(kind, text) for text in assignments]
    names = [name for name, _ in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} of {kind.__name__} is given twice; give it once")
    return dict(found)


_ELSEWHERE = {
    "num_inference_steps": "steps",
    "generator": "seed",
    "num_images_per_prompt": "candidates",
    "negative_prompt": "negative-prompt",
    **{name: name for name in ("steps", "guidance", "seed", "height", "width")},
}
_TAKING = {
    "image": "save AutoPipelineForImage2Image.from_pipe(pipe) of diffusers and give its directory as --model",
    "mask": "save AutoPipelineForInpainting.from_pipe(pipe) of diffusers and give its directory as --model",
    "control image": "give the directory of a saved ControlNet pipeline as --model",
}


def _call_option(kind: type, text: str) -> tuple[str, Any]:
    """Name and value, as the signature of the pipeline's call has its type: text, tuple, picture, else as it is read.

    Raises:
        ValueError: a text without "=", an unknown name, or a picture that can't be opened.
        TypeError: a text for a number.
    """
    from noise_search.words import unknown
    from samplers.pipelines.options import OWNED
    from samplers.pipelines.view import parameters

    known = {name: one for name, one in parameters(kind).items() if name not in (*OWNED, *_ELSEWHERE)}
    name, value = assignment(text, "guidance_rescale=0.7")
    if (own := _ELSEWHERE.get(name)) is not None:
        raise ValueError(f"{name!r} is an option of the command itself: give it as --{own}")
    if name not in known:
        raise unknown(f"option of {kind.__name__}:", name, known)
    stated = known[name].annotation
    stated = stated.__name__ if isinstance(stated, type) and not get_args(stated) else str(stated)
    types = set(re.findall(r"\w+", stated))
    if isinstance(value, str) and "str" not in types:
        if types & {"Image", "PipelineImageInput"}:
            return name, _picture(Path(value))
        if types & {"int", "float", "bool"}:
            raise TypeError(f"{name}={value!r} is a text; {kind.__name__} expects {stated}")
    if isinstance(value, int | float) and "str" in types and not types & {"int", "float", "bool"}:
        return name, text.partition("=")[2]
    return name, tuple(value) if isinstance(value, list) and "tuple" in types and "list" not in types else value


def _picture(file: Path) -> "PILImage":
    from PIL import Image

    from noise_search.disk.images import read_pixels

    return Image.fromarray(read_pixels(file))


_WORDS = {"none": None, "null": None, "true": True, "false": False}


def assignment(text: str, example: str) -> tuple[str, Any]:
    """Name and value of NAME=VALUE: JSON, or true, false, none in any case, or the text itself.

    Raises:
        ValueError: a text without "=".
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"option {text!r} has no value; write it as NAME=VALUE, such as {example}")
    if value.lower() in _WORDS:
        return name, _WORDS[value.lower()]
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def configured_algorithm(name: str, assignments: Sequence[str]) -> "SearchAlgorithm":
    """The algorithm of that name with options given as NAME=VALUE: a number, true, false or none.

    Raises:
        ValueError: an unknown algorithm or option, a text without "=", or a value that the algorithm refuses.
        TypeError: a value of the wrong kind.
    """
    from noise_search.algorithms import ALGORITHMS
    from noise_search.words import unknown

    if name not in ALGORITHMS:
        raise unknown("algorithm", name, ALGORITHMS)
    kind = ALGORITHMS[name]
    known = [field.name for field in fields(kind)]
    options: dict[str, Any] = {}
    for text in assignments:
        option, value = assignment(text, "neighbours=8")
        if not known:
            raise ValueError(f"algorithm {name!r} takes no options, got {text!r}")
        if option not in known:
            raise unknown(f"option of algorithm {name!r}:", option, known)
        options[option] = value
    return kind(**options)


def configured_algorithms(asked: Sequence[str], assignments: Sequence[str]) -> "list[SearchAlgorithm]":
    """Algorithms by name, with options given as NAME.OPTION=VALUE.

    The name may be left out where one algorithm is asked for beside random search.

    Raises:
        ValueError: an unknown algorithm or option, or an option of an algorithm that isn't asked for.
    """
    alone = [name for name in asked if name != "random"]
    given = _by_owner(assignments, "algorithm", asked, alone)
    return [configured_algorithm(name, given[name]) for name in asked]


def configured_verifiers(assignments: Sequence[str], *groups: Sequence[str]) -> "list[list[Named]]":
    """Groups of verifiers, such as those searched by and the judges, with options given as NAME.OPTION=VALUE.

    The name may be left out where the first group is one verifier. What an option takes as text stays as it is typed:
    `hps.version=2.0`, and a commit that reads as a number.

    Raises:
        ValueError: a text without "=", or an option of a verifier that isn't asked for.
    """
    from noise_search.resolve import Named

    for text in assignments:
        assignment(text, "clip.output=cosine")
    asked = list(dict.fromkeys(name for group in groups for name in group))
    given = _by_owner(assignments, "verifier", asked, groups[0])
    options = {name: dict(_verifier_option(name, text) for text in given[name]) for name in asked}
    return [[Named(name, options[name]) for name in group] for group in groups]


def _by_owner(
    assignments: Sequence[str], what: str, asked: Sequence[str], alone: Sequence[str]
) -> dict[str, list[str]]:
    """OPTION=VALUE for each name that was asked for, of NAME.OPTION=VALUE; without a name it is of the one `alone`."""
    from noise_search.words import unknown

    given: dict[str, list[str]] = {name: [] for name in asked}
    for text in assignments:
        path, equals, value = text.partition("=")
        owner, dot, option = path.partition(".")
        if not dot:
            if len(alone) != 1:
                raise ValueError(f"option {text!r} doesn't say of which {what}; write it as NAME.{text}")
            owner, option = alone[0], path
        if owner not in given:
            raise unknown(f"{what} in option", owner, asked)
        given[owner].append(f"{option}{equals}{value}")
    return given


def _verifier_option(name: str, text: str) -> tuple[str, Any]:
    """Name and value; as typed, where a verifier of this name takes texts and none like the value that was read."""
    import verifiers
    from noise_search.shapes import EMBEDDED_VERIFIERS
    from verifiers.arguments import takes_text
    from verifiers.catalogue import verifier_class

    option, value = assignment(text, "output=cosine")
    kind = EMBEDDED_VERIFIERS.get(name, {}).get("kind", name)
    if kind in verifiers.available() and takes_text(verifier_class(kind), option, value):
        return option, text.partition("=")[2]
    return option, value
