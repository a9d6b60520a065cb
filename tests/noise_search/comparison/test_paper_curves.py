"""The paper's curves: the values its tables print, names that find them, and gains that compare."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noise_search.comparison.views import paper_curves as paper


def test_all_curves_are_read():
    found = paper.curves()
    assert len(found) == 59 and sum(len(one.points) for one in found) == 646
    for one in found:
        assert list(one.xs) == sorted(one.xs) and len(one.occluded) == len(one.points) >= 10
        assert one.x_unit == ("GFLOPs" if one.figure == "Fig11" else "NFE")
    assert found is paper.curves()
    assert "2501.09732" in paper.CITATION and "digitised" in paper.CITATION


def test_every_curve_that_is_no_copy_has_a_name_that_finds_it():
    names = paper.names()
    assert len(set(names)) == len(names) == 57
    assert [paper.curve(name).name for name in names] == list(names)
    unnamed = [one for one in paper.curves() if not one.name]
    copies = [paper.curve("imagenet-zo2-fid-dino"), paper.curve("imagenet-zo2-is-dino")]
    assert [one.points for one in unnamed] == [one.points for one in copies]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        # Figures and tables of the paper: FLUX without search (Table 2), SiT-XL at 250 NFE (Fig. 3).
        ("flux-drawbench-clip", (30, 0.71), (3840, 0.83)),
        ("flux-drawbench-aesthetic", (30, 5.79), (3840, 6.08)),
        ("imagenet-random-fid-oracle", (250, 8.83), (13000, 1.44)),
        ("imagenet-random-is-dino", (250, 115.0), (13000, 363.5)),
        ("imagenet-random-is-clip-cfg1.5", (250, 252.1), (13000, 355.1)),
        ("imagenet-random-fid-clip", (250, 8.83), (13000, 5.37)),
        ("imagenet-zo2-fid-dino", (250, 8.84), (13000, 2.77)),
        ("imagenet-paths4-is-dino", (250, 115.1), (23265, 269.9)),
    ],
)
def test_ends_of_curves(name, first, last):
    one = paper.curve(name)
    assert one.points[0] == pytest.approx(first, rel=2e-3)
    assert one.points[-1] == pytest.approx(last, rel=5e-3)


def test_gains_equal_those_that_the_paper_prints():
    # Fig. 8, random search with 3840 NFE: each verifier's own gain, and those of the ensemble.
    assert paper.gain(paper.curve("flux-drawbench-clip")).ys[-1] == pytest.approx(16.5, abs=0.1)
    printed = {"imagereward": 46.6, "clip": 9.1, "aesthetic": 5.1, "llm": 4.5}
    for metric, value in printed.items():
        one = paper.curve(f"flux-drawbench-ensemble-{metric}")
        assert one.relative and paper.gain(one) is one
        assert one.ys[0] == 0 and one.ys[-1] == pytest.approx(value, abs=0.05)
    absolute = paper.gain(paper.curve("flux-drawbench-aesthetic"))
    assert absolute.relative and not absolute.lower_is_better
    assert absolute.ys == pytest.approx(paper.curve("flux-drawbench-ensemble-aesthetic").ys, abs=0.05)


def test_a_falling_fid_is_a_gain():
    fid = paper.gain(paper.curve("imagenet-random-fid-dino"))
    best = max(range(len(fid.ys)), key=fid.ys.__getitem__)
    assert fid.ys[0] == 0 and fid.xs[best] == 400 and fid.ys[best] == pytest.approx(100 * (1 - 3.34 / 8.83), abs=0.1)
    assert paper.gain(fid) is fid


def test_occluded_points_are_marked():
    assert sum(sum(one.occluded) for one in paper.curves()) == 82
    assert paper.curve("imagenet-zo4-fid-dino").occluded[-1] and not any(paper.curve("imagenet-zo8-fid-dino").occluded)


def test_groups():
    flux = paper.matching("flux-drawbench")
    assert len(flux) == 8 and all(one.name.startswith("flux-drawbench-") for one in flux)
    assert [one.name for one in paper.matching("imagenet-drafts10")] == ["imagenet-drafts10-is-dino-cfg1.5"]
    assert paper.matching("Flux-DrawBench-Clip") == (paper.curve("flux-drawbench-clip"),)


@pytest.mark.parametrize("name", ["flux-drawbench-clipp", "flux-drawbench-clp"])
def test_unknown_names_get_the_nearest(name):
    for find in (paper.curve, paper.matching):
        with pytest.raises(ValueError, match="did you mean 'flux-drawbench-clip'"):
            find(name)


@pytest.mark.parametrize("name", ["", "-", "nothing of the kind"])
def test_names_without_a_neighbour_get_the_list(name):
    for find in (paper.curve, paper.matching):
        with pytest.raises(ValueError, match=r"the paper has no curve .*Names begin with flux-drawbench"):
            find(name)


values = st.lists(st.floats(0.01, 1e6), min_size=1)


@given(values, st.floats(0.01, 100), st.booleans())
def test_gains_do_not_depend_on_the_scale(listed, scale, lower):
    one = paper.relative_gain(listed, lower_is_better=lower)
    assert paper.relative_gain([scale * v for v in listed], lower_is_better=lower) == pytest.approx(one, 1e-6, 1e-6)
    assert one[0] == 0
    assert all((gain > 0) == (v != listed[0] and (v < listed[0]) == lower) for v, gain in zip(listed, one, strict=True))


def test_gains_of_negative_scores_point_the_same_way():
    assert paper.relative_gain([-2.0, -1.0, -3.0]) == (0.0, 50.0, -50.0)
    for wrong in ([], [0.0, 1.0]):
        with pytest.raises(ValueError, match="need a first value other than 0"):
            paper.relative_gain(wrong)
