"""Weight files and pretrained models: pinned, checked, complete, and said."""

import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from contracts.verifier import refused
from tiny.clip import WIDTH, published_head, save_head
from verifiers import Aesthetic, PickScore
from verifiers.loading import hub as pins
from verifiers.loading import notices
from verifiers.loading.pretrained import Pretrained, TokenizerSource
from verifiers.loading.weights import WeightFile, file_sha256

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch):
    monkeypatch.setattr(notices, "_said", set())


@pytest.fixture
def tensors(tmp_path):
    save_file({"weight": torch.ones(1, 4), "bias": torch.zeros(1)}, tmp_path / "head.safetensors")
    return tmp_path / "head.safetensors"


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("models") / "dino"
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Dinov2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture
def whole(dino):
    return {name: dino / name for name in ("config.json", "model.safetensors")}


@pytest.fixture
def pickled(dino, tmp_path):
    """The same weights as a pickle."""
    (tmp_path / "pickled").mkdir()
    torch.save(load_file(dino / "model.safetensors"), tmp_path / "pickled" / "pytorch_model.bin")
    shutil.copy(dino / "config.json", tmp_path / "pickled")
    return {path.name: path for path in (tmp_path / "pickled").iterdir()}


def warned(said):
    return [record.getMessage() for record in said.records if record.levelno == logging.WARNING]


def test_a_hub_file_is_read_at_its_commit(hub, tensors):
    hub.add("org/head", {"head.safetensors": tensors}, COMMIT)
    file = WeightFile("head.safetensors", "org/head", COMMIT)
    assert set(file.tensors()) == {"weight", "bias"}
    assert file.label == f"org/head/head.safetensors@{COMMIT[:8]}"
    with refused(r"head.safetensors of org/head at revision 'main'.*check the network"):
        _ = WeightFile("head.safetensors", "org/head").path


def test_contents_are_checked_against_the_pinned_hash(hub, tensors):
    hub.add("org/head", {"head.safetensors": tensors})
    good = WeightFile("head.safetensors", "org/head", sha256=file_sha256(tensors))
    assert good.path.is_file() and good.label == f"head.safetensors/{good.hash[:8]}"
    with refused(r"has sha256 .*expected ffffffffffff.*download it again"):
        _ = WeightFile("head.safetensors", "org/head", sha256="f" * 64).path
    with refused("expected ffffffffffff"):
        _ = WeightFile.local(tensors, sha256="f" * 64).path


def test_without_a_pinned_hash_the_hubs_own_counts(hub, tensors):
    hub.add("org/head", {"head.safetensors": tensors})
    assert WeightFile("head.safetensors", "org/head").path.is_file()
    (blob,) = hub.blobs("org/head")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    with refused(f"expected {blob.name[:12]}"):
        _ = WeightFile("head.safetensors", "org/head").path


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save({"weight": nn.Linear(2, 1)}, tmp_path / "module.pth")  # a whole module, not tensors
    with refused(r"could not read 'module.pth'.*save its state dict as .safetensors"):
        WeightFile.local(tmp_path / "module.pth").tensors()


def test_an_address_is_cached_by_its_hash(tensors, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "cache"))
    here = WeightFile("head.safetensors", sha256=file_sha256(tensors), address=tensors.as_uri())
    assert set(here.tensors()) == {"weight", "bias"}
    tensors.unlink()
    assert set(WeightFile("head.safetensors", sha256=here.sha256, address=tensors.as_uri()).tensors()) > {"bias"}
    with refused(r"could not get file://.*gone.pth.*check the network"):
        _ = WeightFile("gone.pth", sha256="f" * 64, address=(tmp_path / "gone.pth").as_uri()).path


def test_a_pretrained_model_is_complete_shared_and_left_alone(dino):
    source = Pretrained(dino, "AutoModel")
    state = torch.get_rng_state()
    model = source.model("cpu")
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert Pretrained(str(dino), "AutoModel").model() is model
    assert Pretrained(dino, "AutoModel", dtype=torch.bfloat16).model() is not model
    assert source.label.startswith("dino/")
    assert Pretrained(dino, "AutoModel", dtype=torch.bfloat16).label == f"{source.label}/bfloat16"


def test_weights_that_lack_a_part_are_refused(dino):
    with refused(r"dino has 2 missing keys for Dinov2ForImageClassification.*random"):
        Pretrained(dino, "Dinov2ForImageClassification").model()


def test_a_pretrained_model_that_is_not_there(hub, dino, tmp_path):
    for missing, said in [
        (str(tmp_path / "nowhere"), "does not exist; pass a saved model or a hub id"),
        ("org/missing", r"weights of org/missing@main.*check the network"),
        (str(tmp_path), "has no weights; expected config.json and model.safetensors"),
    ]:
        with refused(said):
            Pretrained(missing, "AutoModel").model()
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copy(dino / "config.json", broken)
    (broken / "model.safetensors").write_bytes(b"not tensors")
    with refused(r"could not load the weights of broken.*check the files"):
        Pretrained(broken, "AutoModel").model()


def test_a_pretrained_model_of_the_hub_loads_at_its_pinned_commit(hub, whole):
    commit = pins.commit("facebook/dinov2-base")
    hub.add("facebook/dinov2-base", whole, commit)
    source = Pretrained("facebook/dinov2-base", "AutoModel")
    assert source.model().config.hidden_size == 32
    assert source.label == f"facebook/dinov2-base@{commit[:8]}"
    with refused("facebook/dinov2-base@other"):
        Pretrained("facebook/dinov2-base", "AutoModel", revision="other").model()


def test_pickles_are_taken_only_where_a_verifier_allows_them(pickled):
    folder = pickled["config.json"].parent
    with refused(r"could not load the weights of pickled"):
        Pretrained(folder, "AutoModel").model()
    assert Pretrained(folder, "AutoModel", safetensors=False).model().config.hidden_size == 32


@pytest.fixture
def said(caplog):
    """What is said while something loads, quiet notices too."""
    caplog.set_level(logging.DEBUG, logger="verifiers.loading")
    return caplog


def test_the_notice_says_downloading_where_a_download_starts(hub, dino, said, monkeypatch):
    monkeypatch.setattr(pins, "reachable", lambda: True)
    hub.add("org/dino", {"config.json": dino / "config.json"}, COMMIT)
    source = Pretrained("org/dino", "AutoModel", revision=COMMIT, size=400_000_000)
    assert source.config.hidden_size == 32  # read before the weights, as verifiers do
    with refused("could not load the weights of org/dino@01234567"):
        source.model()
    assert said.messages == ["downloading org/dino@01234567, 400 MB"]


def test_without_the_hub_nothing_is_said_to_be_downloaded(hub, said, monkeypatch):
    with refused(r"could not load the weights of org/dino@01234567.*download it elsewhere"):
        Pretrained("org/dino", "AutoModel", revision=COMMIT, size=400_000_000).model()
    told = r"could not get head.pt of org/head at revision 'main' .* \(it isn't in the cache here, and {}\); check the"
    with refused(told.format("HF_HUB_OFFLINE is set")):
        pins.fetch("org/head", "head.pt", "main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pins, "reachable", lambda: False)
    with refused(told.format("the hub can't be reached")):
        pins.fetch("org/head", "head.pt", "main")
    assert not said.messages


def test_the_notice_says_loading_where_the_weights_are_here(hub, dino, whole, tmp_path, said, monkeypatch):
    monkeypatch.setattr(pins, "reachable", lambda: True)
    from transformers import AutoModel

    hub.add("org/whole", whole, COMMIT)
    Pretrained("org/whole", "AutoModel", revision=COMMIT, size=400_000_000).model()
    AutoModel.from_pretrained(dino).save_pretrained(tmp_path / "parts", max_shard_size="20kB")
    parts = {path.name: path for path in (tmp_path / "parts").iterdir()}
    assert "model.safetensors.index.json" in parts and len(parts) > 3
    hub.add("org/parts", parts, COMMIT)
    Pretrained("org/parts", "AutoModel", revision=COMMIT, size=400_000_000).model()
    del parts["model-00002-of-" + sorted(parts)[1].split("-of-")[1]]
    hub.add("org/some", parts, COMMIT)
    with refused("could not load the weights of org/some"):
        Pretrained("org/some", "AutoModel", revision=COMMIT, size=400_000_000).model()
    assert said.messages == [
        "loading org/whole@01234567, 400 MB",
        "loading org/parts@01234567, 400 MB",
        "downloading org/some@01234567, 400 MB",
    ]


def test_a_pickle_of_the_hub_is_checked_before_it_is_read(hub, pickled, said):
    hub.add("org/pickled", pickled, COMMIT)
    source = Pretrained("org/pickled", "AutoModel", revision=COMMIT, safetensors=False)
    assert source.model().config.hidden_size == 32
    assert not any("not checked" in message for message in said.messages)
    blob = max(hub.blobs("org/pickled"), key=lambda one: one.stat().st_size)
    blob.write_bytes(blob.read_bytes() + b"x")
    with refused(r"pytorch_model.bin of org/pickled@01234567 has sha256 .*is damaged"):
        Pretrained("org/pickled", "AutoModel", revision=COMMIT, safetensors=False, dtype="bfloat16").model()


def test_a_pickle_whose_hash_nobody_states_is_said(hub, pickled, tensors, said):
    hub.add("org/pickled", {**pickled, "head.safetensors": tensors}, COMMIT)
    for name in ("pytorch_model.bin", "head.safetensors"):  # a cache without links, as on some file systems
        link = hub.cache / "models--org--pickled" / "snapshots" / COMMIT / name
        contents = link.read_bytes()
        link.unlink()
        link.write_bytes(contents)
        assert WeightFile(name, "org/pickled", COMMIT).path == link
    assert warned(said) == [
        "pytorch_model.bin of org/pickled@01234567: a pickle whose sha256 nobody states, so it is not checked; it is "
        "read with weights_only=True"
    ]


def test_restricted_weights_are_flagged_however_they_load(hub, whole, pickled, said):
    hub.add("org/PickScore_v1", whole, COMMIT)
    hub.add("org/stable-diffusion-safety-checker", pickled, COMMIT)
    Pretrained("org/PickScore_v1", "AutoModel", revision=COMMIT).model()
    _ = WeightFile("pytorch_model.bin", "org/stable-diffusion-safety-checker", COMMIT).path
    first, second = warned(said)
    assert first.startswith("org/PickScore_v1: ") and second.startswith("org/stable-diffusion-safety-checker: ")


def test_a_revision_of_a_directory_is_refused(dino):
    for named in (
        lambda: Pretrained(dino, "AutoModel", revision="v1"),
        lambda: TokenizerSource(dino, "v1"),
        lambda: PickScore(dino, revision="v1"),
    ):
        with refused(r"revision 'v1' is one of a hub repository, but '.*dino' is a dir", ValueError):
            named()


def test_commits_are_whole():
    assert all(len(commit) == 40 and int(commit, 16) for commit in pins._COMMITS.values())
    assert pins.commit("org/unknown") == "main" and pins.commit("xswu/HPSv2", "v1") == "v1"


def test_the_flag_is_raised_when_weights_load_not_before(hub, clip_directory, tmp_path, caplog):
    head = save_head(published_head(WIDTH), tmp_path / "sac+logos+ava1-l14-linearMSE.safetensors")
    verifier = Aesthetic(head, model=clip_directory)
    assert not caplog.records
    verifier.load()
    verifier.load()
    assert sum("no licence file" in message for message in caplog.messages) == 1
