"""Weight files and pretrained models: pinned, checked, complete, and said."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tiny.fake_hub import FakeHub
from verifiers import Aesthetic, PickScore, WeightsError
from verifiers.loading import hub as pins
from verifiers.loading import notices
from verifiers.loading.pretrained import Pretrained, TokenizerSource
from verifiers.loading.weights import WeightFile, file_sha256

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_said", set())


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    save_file({"weight": torch.ones(1, 4), "bias": torch.zeros(1)}, tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("models") / "dino"
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Dinov2Model(config).save_pretrained(folder)
    return folder


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_hub_file_is_read_at_its_commit(hub: FakeHub, tensors: Path) -> None:
    hub.add("org/head", {"head.safetensors": tensors}, COMMIT)
    file = WeightFile("head.safetensors", "org/head", COMMIT)
    assert set(file.tensors()) == {"weight", "bias"}
    assert file.label == f"org/head/head.safetensors@{COMMIT[:8]}"
    with pytest.raises(WeightsError, match=r"head.safetensors of org/head at revision 'main'.*check the network") as e:
        _ = WeightFile("head.safetensors", "org/head").path
    one_line(e.value)


def test_contents_are_checked_against_the_pinned_hash(hub: FakeHub, tensors: Path) -> None:
    hub.add("org/head", {"head.safetensors": tensors})
    good = WeightFile("head.safetensors", "org/head", sha256=file_sha256(tensors))
    assert good.path.is_file() and good.label == f"head.safetensors/{good.sha256[:8] if good.sha256 else ''}"
    with pytest.raises(WeightsError, match=r"has sha256 .*expected ffffffffffff.*download it again") as e:
        _ = WeightFile("head.safetensors", "org/head", sha256="f" * 64).path
    one_line(e.value)
    with pytest.raises(WeightsError, match="expected ffffffffffff"):
        _ = WeightFile.local(tensors, sha256="f" * 64).path


def test_without_a_pinned_hash_the_hubs_own_counts(hub: FakeHub, tensors: Path) -> None:
    hub.add("org/head", {"head.safetensors": tensors})
    assert WeightFile("head.safetensors", "org/head").path.is_file()
    (blob,) = hub.blobs("org/head")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=f"expected {blob.name[:12]}"):
        _ = WeightFile("head.safetensors", "org/head").path


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": nn.Linear(2, 1)}, tmp_path / "module.pth")  # a whole module, not tensors
    with pytest.raises(WeightsError, match=r"could not read 'module.pth'.*save its state dict as .safetensors") as e:
        WeightFile.local(tmp_path / "module.pth").tensors()
    one_line(e.value)


def test_an_address_is_cached_by_its_hash(tensors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    here = WeightFile("head.safetensors", sha256=file_sha256(tensors), address=tensors.as_uri())
    assert set(here.tensors()) == {"weight", "bias"}
    tensors.unlink()
    assert set(WeightFile("head.safetensors", sha256=here.sha256, address=tensors.as_uri()).tensors()) > {"bias"}
    with pytest.raises(WeightsError, match=r"could not get file://.*gone.pth.*check the network"):
        _ = WeightFile("gone.pth", sha256="f" * 64, address=(tmp_path / "gone.pth").as_uri()).path


def test_a_pretrained_model_is_complete_shared_and_left_alone(dino: Path) -> None:
    source = Pretrained(dino, "AutoModel")
    state = torch.get_rng_state()
    model = source.model("cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert Pretrained(str(dino), "AutoModel").model() is model
    assert Pretrained(dino, "AutoModel", dtype=torch.bfloat16).model() is not model
    assert source.label.startswith("dino/")
    assert Pretrained(dino, "AutoModel", dtype=torch.bfloat16).label == f"{source.label}/bfloat16"


def test_weights_that_lack_a_part_are_refused(dino: Path) -> None:
    with pytest.raises(WeightsError, match=r"dino has 2 missing keys for Dinov2ForImageClassification.*random") as e:
        Pretrained(dino, "Dinov2ForImageClassification").model()
    one_line(e.value)


def test_a_pretrained_model_that_is_not_there(hub: FakeHub, dino: Path, tmp_path: Path) -> None:
    for missing, said in [
        (str(tmp_path / "nowhere"), "does not exist; pass a saved model or a hub id"),
        ("org/missing", r"weights of org/missing@main.*check the network"),
        (str(tmp_path), "has no weights; expected config.json and model.safetensors"),
    ]:
        with pytest.raises(WeightsError, match=said) as e:
            Pretrained(missing, "AutoModel").model()
        one_line(e.value)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_bytes((dino / "config.json").read_bytes())
    (broken / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(WeightsError, match=r"could not load the weights of broken.*check the files") as e:
        Pretrained(broken, "AutoModel").model()
    one_line(e.value)


def test_a_pretrained_model_of_the_hub_loads_at_its_pinned_commit(hub: FakeHub, dino: Path) -> None:
    commit = pins.commit("facebook/dinov2-base")
    hub.add("facebook/dinov2-base", {name: dino / name for name in ("config.json", "model.safetensors")}, commit)
    source = Pretrained("facebook/dinov2-base", "AutoModel")
    assert source.model().config.hidden_size == 32
    assert source.label == f"facebook/dinov2-base@{commit[:8]}"
    with pytest.raises(WeightsError, match="facebook/dinov2-base@other"):
        Pretrained("facebook/dinov2-base", "AutoModel", revision="other").model()


def test_pickles_are_taken_only_where_a_verifier_allows_them(dino: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_bytes((dino / "config.json").read_bytes())
    torch.save(load_file(dino / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"could not load the weights of pickled"):
        Pretrained(folder, "AutoModel").model()
    assert Pretrained(folder, "AutoModel", safetensors=False).model().config.hidden_size == 32


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is said while something loads, quiet notices too."""
    caplog.set_level(logging.DEBUG, logger="verifiers.loading")
    return caplog


def test_the_notice_says_downloading_where_a_download_starts(
    hub: FakeHub, dino: Path, said: pytest.LogCaptureFixture
) -> None:
    hub.add("org/dino", {"config.json": dino / "config.json"}, COMMIT)
    source = Pretrained("org/dino", "AutoModel", revision=COMMIT, size=400_000_000)
    assert source.config.hidden_size == 32  # read before the weights, as verifiers do
    with pytest.raises(WeightsError, match="could not load the weights of org/dino@01234567"):
        source.model()
    assert said.messages == ["downloading org/dino@01234567, 400 MB"]


def test_the_notice_says_loading_where_the_weights_are_here(
    hub: FakeHub, dino: Path, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoModel

    hub.add("org/whole", {name: dino / name for name in ("config.json", "model.safetensors")}, COMMIT)
    Pretrained("org/whole", "AutoModel", revision=COMMIT, size=400_000_000).model()
    AutoModel.from_pretrained(dino).save_pretrained(tmp_path / "parts", max_shard_size="20kB")
    parts = {path.name: path for path in (tmp_path / "parts").iterdir()}
    assert "model.safetensors.index.json" in parts and len(parts) > 3
    hub.add("org/parts", parts, COMMIT)
    Pretrained("org/parts", "AutoModel", revision=COMMIT, size=400_000_000).model()
    del parts["model-00002-of-" + sorted(parts)[1].split("-of-")[1]]
    hub.add("org/some", parts, COMMIT)
    with pytest.raises(WeightsError):
        Pretrained("org/some", "AutoModel", revision=COMMIT, size=400_000_000).model()
    assert said.messages == [
        "loading org/whole@01234567, 400 MB",
        "loading org/parts@01234567, 400 MB",
        "downloading org/some@01234567, 400 MB",
    ]


def pickled(dino: Path, tmp_path: Path) -> dict[str, Path]:
    torch.save(load_file(dino / "model.safetensors"), tmp_path / "pytorch_model.bin")
    return {"config.json": dino / "config.json", "pytorch_model.bin": tmp_path / "pytorch_model.bin"}


def test_a_pickle_of_the_hub_is_checked_before_it_is_read(
    hub: FakeHub, dino: Path, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    hub.add("org/pickled", pickled(dino, tmp_path), COMMIT)
    source = Pretrained("org/pickled", "AutoModel", revision=COMMIT, safetensors=False)
    assert source.model().config.hidden_size == 32
    assert not any("not checked" in message for message in said.messages)
    blob = max(hub.blobs("org/pickled"), key=lambda one: one.stat().st_size)
    blob.write_bytes(blob.read_bytes() + b"x")
    with pytest.raises(WeightsError, match=r"pytorch_model.bin of org/pickled@01234567 has sha256 .*is damaged") as e:
        Pretrained("org/pickled", "AutoModel", revision=COMMIT, safetensors=False, dtype="bfloat16").model()
    one_line(e.value)


def test_a_pickle_whose_hash_nobody_states_is_said(
    hub: FakeHub, dino: Path, tensors: Path, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    hub.add("org/pickled", {**pickled(dino, tmp_path), "head.safetensors": tensors}, COMMIT)
    for name in ("pytorch_model.bin", "head.safetensors"):  # a cache without links, as on some file systems
        link = hub.cache / "models--org--pickled" / "snapshots" / COMMIT / name
        contents = link.read_bytes()
        link.unlink()
        link.write_bytes(contents)
        assert WeightFile(name, "org/pickled", COMMIT).path == link
    warned = [record.getMessage() for record in said.records if record.levelno == logging.WARNING]
    assert warned == [
        "pytorch_model.bin of org/pickled@01234567: a pickle whose sha256 nobody states, so it is not checked; it is "
        "read with weights_only=True"
    ]


def test_restricted_weights_are_flagged_however_they_load(
    hub: FakeHub, dino: Path, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    hub.add("org/PickScore_v1", {name: dino / name for name in ("config.json", "model.safetensors")}, COMMIT)
    hub.add("org/stable-diffusion-safety-checker", pickled(dino, tmp_path), COMMIT)
    Pretrained("org/PickScore_v1", "AutoModel", revision=COMMIT).model()
    _ = WeightFile("pytorch_model.bin", "org/stable-diffusion-safety-checker", COMMIT).path
    warned = [record.getMessage() for record in said.records if record.levelno == logging.WARNING]
    assert [message.split(":")[0] for message in warned] == ["org/PickScore_v1", "org/stable-diffusion-safety-checker"]


def test_a_revision_of_a_directory_is_refused(dino: Path) -> None:
    for named in (
        lambda: Pretrained(dino, "AutoModel", revision="v1"),
        lambda: TokenizerSource(dino, "v1"),
        lambda: PickScore(dino, revision="v1"),
    ):
        with pytest.raises(ValueError, match=r"revision 'v1' is one of a hub repository, but '.*dino' is a dir") as e:
            named()
        one_line(e.value)


def test_commits_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(len(commit) == 40 and int(commit, 16) for commit in pins._COMMITS.values())
    assert pins.commit("org/unknown") == "main" and pins.commit("xswu/HPSv2", "v1") == "v1"


def test_loading_is_said_once_with_its_size(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="verifiers.loading"):
        notices.loading("big.pt of org/big@main", 1_786_880_927, download=True)
        notices.loading("big.pt of org/big@main", 1_786_880_927, download=True)
        notices.loading("small", 3_000_000)
        notices.loading("large", 300_000_000)
    assert [r.getMessage() for r in caplog.records] == [
        "downloading big.pt of org/big@main, 1.8 GB",
        "loading large, 300 MB",
    ]


def test_loading_is_said_where_nobody_set_up_logging() -> None:
    import subprocess
    import sys

    code = "from verifiers.loading import notices; notices.loading('x', 4_266_648_961, download=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "downloading x, 4.3 GB\n" and done.stdout == ""


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("ViT-H-14-quickgelu dfn5b", "research only, no commercial use"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "research only"),
        ("CompVis/stable-diffusion-safety-checker", "OpenRAIL-M"),
        ("yuvalkirstain/PickScore_v1", "no licence is stated"),
        ("trl-lib/ddpo-aesthetic-predictor", "no licence file"),
        ("facebook/dinov3-vitb16", "gated"),
    ],
)
def test_restricting_licences_are_flagged_once(weights: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    notices.flag(weights)
    notices.flag(weights)
    assert len(caplog.records) == 1 and said in caplog.records[0].getMessage()
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    "weights", ["facebook/dinov2-base", "Qwen/Qwen3-VL-2B-Instruct", "xswu/HPSv2", "ViT-L-14-quickgelu openai"]
)
def test_free_licences_are_not_flagged(weights: str) -> None:
    assert notices.terms(weights) is None


def test_the_flag_is_raised_when_weights_load_not_before(
    hub: FakeHub, clip_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from tiny.clip import WIDTH, published_head, save_head

    save_head(published_head(WIDTH), tmp_path / "sac+logos+ava1-l14-linearMSE.safetensors")
    verifier = Aesthetic(tmp_path / "sac+logos+ava1-l14-linearMSE.safetensors", model=clip_directory)
    assert not caplog.records
    verifier.load()
    verifier.load()
    assert sum("no licence file" in record.getMessage() for record in caplog.records) == 1
