"""What a verifier costs at full size on a CPU: milliseconds and GFLOP per image, weights and peak memory.

`python tests/benchmarks/verifier_costs.py run [NAME ...]` measures the rows of `verifier_costs_rows.py` (all by
default) and merges them into `verifier_costs.json` beside itself; `... report` prints them as a markdown table.

Each verifier has a process of its own, so that its peak memory is its own, on random weights of the published sizes
that another process wrote before; it loads them by its own code. float32 (hpsv3: bfloat16, its default), two threads.

- ms per image: a batch of 4 (vlm and hpsv3: of 1) at 512x512 and 1024x1024, preprocessing included, the prompt's text
  encoded before; the median of at least 3 calls (fewer where they take a minute) after one that is
  counted, each on new images.
- ms for a new prompt: its text alone, where a text tower encodes it once for all images.
- peak GB: the process's largest resident memory (VmHWM) above that before loading, while it loads and while it scores.
- GFLOP: 2 per multiply-add of matrix products, convolutions and attention (causal attention counted in full), by
  torch's FlopCounterMode, for one image; resizing and normalisation are no such products.
- others: how many cores other processes kept busy meanwhile. Calls wait up to half a minute in all for a moment when
  they leave enough, and those that were disturbed are left out where three others remain. Measure rows again where it
  is above what the machine has beyond the threads: they wait for each other, so one disturbed core slows both.

hpsv3 has 16.6 GB of weights: it is measured at three smaller depths and extrapolated, which is exact for parameters and
GFLOP, since all layers are equal, and an estimate for time. `report` also counts, without weights, one pass of three
denoisers, to compare with.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from verifier_costs_measures import SIDES, counted, measure
from verifier_costs_rows import ROWS, denoisers, write_hpsv3

OUT = Path(__file__).with_suffix(".json")
THREADS = 2
DISTURBED = 0.25
"""Cores that a row's threads need and others kept busy, from which it is marked."""
SMALLER_DEPTHS = ((1, 1), (3, 1), (1, 9))
"""Layers of hpsv3's language model and vision tower: a base, more of the one, more of the other."""
ADDITIVE = ("parameters_M", "weights_GB", *(f"{what}_{side}" for what in ("ms", "gflop") for side in SIDES))


def rounded(row):
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}


def child(*arguments):
    """What this script prints last in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def in_own_processes(name, depths=()):
    """One row: a process writes the weights, another measures."""
    with tempfile.TemporaryDirectory() as directory:
        child("write", name, directory, *depths)
        return child("measure", name, directory)


def extrapolated(name, depths):
    """A row whose layers are too many for this machine, linearly from three that have fewer."""
    found = [in_own_processes(name, smaller) for smaller in SMALLER_DEPTHS]
    base = SMALLER_DEPTHS[0]
    row = {key: found[0][key] for key in ADDITIVE}
    for part in (0, 1):  # the language model, the vision tower
        deeper = SMALLER_DEPTHS[1 + part]
        for key in ADDITIVE:
            a_layer = (found[1 + part][key] - found[0][key]) / (deeper[part] - base[part])
            row[key] += a_layer * (depths[part] - base[part])
    measured = [f"{d[0]}+{d[1]} layers: {f['ms_512']:.0f} ms" for d, f in zip(SMALLER_DEPTHS, found, strict=True)]
    return {**row, "others": max(f["others"] for f in found), "extrapolated_from": measured}


def machine():
    """What the times depend on."""
    first = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first)}
    name = f"{cpu['model name']}, family {cpu['cpu family']} model {cpu['model']}"
    return {"cpu": name, "threads": THREADS, "cores": os.cpu_count(), "torch": torch.__version__}


def run(names):
    """Measure rows and put them into the file, each as soon as it is there."""
    for name in names or ROWS:
        row, load = ROWS[name], os.getloadavg()[0]
        found = extrapolated(name, row.depths) if row.depths else in_own_processes(name)
        dtype = "bfloat16" if name == "hpsv3" else "float32"
        facts = {"name": name, "model": row.model, "dtype": dtype, "batch": row.batch, "note": row.note}
        known = {row["name"]: row for row in json.loads(OUT.read_text())} if OUT.exists() else {}
        known[name] = {**facts, **rounded(found), "load_average_before": round(load, 2), **machine()}
        lines = [json.dumps(known[each]) for each in ROWS if each in known]
        OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n")
        print(lines[[each for each in ROWS if each in known].index(name)], flush=True)


def cell(row, key, form):
    return form.format(row[key]) if row.get(key) else "–"


def number(value):
    """Three digits, thousands apart."""
    return f"{value:,.1f}" if value < 10 else f"{float(f'{value:.3g}'):,.0f}"


def report():
    """Print the rows as markdown."""
    print("| verifier | model | parameters, M | weights, GB | peak GB, load / score | ms per image, 512² / 1024² "
          "| ms, new prompt | GFLOP, image / new prompt |")  # fmt: skip
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for row in json.loads(OUT.read_text()):
        mark = (" *" if "extrapolated_from" in row else "") + (
            " †" if row["others"] > row["cores"] - row["threads"] + DISTURBED else ""
        )
        mark += "" if row["threads"] == THREADS else f" ({row['threads']} thread)"
        peaks = f"{row['peak_GB_load']:.1f} / {row['peak_GB_1024']:.1f}" if "peak_GB_load" in row else "–"
        flop = number(row["gflop_512"]) if row["gflop_512"] >= 0.1 else "–"
        if row["gflop_1024"] > 1.05 * row["gflop_512"] >= 0.1:
            flop = f"{flop} ({number(row['gflop_1024'])} at 1024²)"
        flop += f" / {number(row['gflop_text'])}" if "gflop_text" in row else ""
        cells = [
            f"`{row['name']}`",
            row["model"] + (f" ({row['note']})" if row["note"] else ""),
            cell(row, "parameters_M", "{:,.0f}"),
            cell(row, "weights_GB", "{:.1f}"),
            peaks,
            f"{number(row['ms_512'])} / {number(row['ms_1024'])}{mark}",
            number(row["ms_text"]) if "ms_text" in row else "–",
            flop,
        ]
        print("| " + " | ".join(cells) + " |")
    print("\n\\* extrapolated from fewer layers. † while other processes computed: too slow, measure again.")
    for name, call in denoisers():
        with counted() as counter:
            call()
        print(f"One pass of {name}: {counter.get_total_flops() / 1e12:.3g} TFLOP.")


def main(command, *arguments):
    torch.set_num_threads(THREADS)
    if command == "run":
        run(arguments)
    elif command == "report":
        report()
    elif command == "write":
        name, directory, *depths = arguments
        write = write_hpsv3 if depths else ROWS[name].write
        write(Path(directory), *([tuple(map(int, depths))] if depths else []))
        print("null")
    elif command == "measure":
        print(json.dumps(measure(ROWS[arguments[0]], Path(arguments[1]))))
    else:
        raise SystemExit(f"unknown command {command!r}; expected run or report")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["report"])
