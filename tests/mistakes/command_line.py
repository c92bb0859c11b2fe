# SPDX-License-Identifier: Apache-2.0
"""Mistakes in what was typed."""

from __future__ import annotations

import atexit
import json
import os
import socket

from .row import Mistake, Step
from .steps import NO_LABELS, model, structure, text

TITLE = "Command line"
ABOUT = (
    "Mistakes in what was typed. Where the command itself cannot be understood, its "
    "usage comes first, and the exit status is 2."
)
DETAIL = "# data: data_e pred_e\n1.0 2.0\n"


def typed(did: str, how: str, says: str, *steps: Step, ends: int = 1) -> Mistake:
    """A mistake in the command."""
    return Mistake(TITLE, did, how, says, steps, ends)


def environment(name: str, value: str) -> Step:
    """Set a variable; the test takes it back."""
    return lambda: os.environ.__setitem__(name, value)


def workers(addresses: list[str], index: int = 0, **jobs: list[str]) -> Step:
    """Set `TF_CONFIG`."""
    cluster = {"worker": addresses, **jobs}
    task = {"type": "worker", "index": index}
    return environment("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))


def port_in_use() -> None:
    """Take a port, as long as the program runs, and give it to a worker."""
    taken = socket.socket()
    atexit.register(taken.close)
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    workers([address, "127.0.0.1:1"])()


ROWS = {
    "no verb": typed(
        "Give no verb.", "", "the following arguments are required: verb", ends=2
    ),
    "unknown verb": typed(
        "Mistype a verb.",
        "trian input.json",
        "argument verb: invalid choice: 'trian' (choose from {...})",
        ends=2,
    ),
    "unknown option": typed(
        "Give an option that is not there.",
        "train input.json --fast",
        "unrecognized arguments: --fast",
        ends=2,
    ),
    "restart and init": typed(
        "Begin from two models.",
        "train input.json -r a -i b",
        "argument -i/--init-model: not allowed with argument -r/--restart",
        ends=2,
    ),
    "number is a word": typed(
        "Give a word for a number.",
        "test -n few",
        "argument -n/--numb-test: invalid int value: 'few'",
        ends=2,
    ),
    "negative number": typed(
        "Ask for less than no frames.",
        "test -n -1 -s data",
        "-n must be 0 (all) or more frames. Received: -1",
    ),
    "negative number of rotations": typed(
        "Turn spins by less than no rotations.",
        "test -s data --spin-rotation -1",
        "--spin-rotation must be 0 (none) or more rotations. Received: -1",
    ),
    "deviation of one model": typed(
        "Ask one model how much it deviates.",
        "model-devi -m model.keras -s data",
        "Models disagree with each other: -m takes 2 or more of them, unless "
        "--real_error compares with labels. Received: 1",
        model("model.keras"),
    ),
    "no steps between frames": typed(
        "Put no steps between frames.",
        "model-devi -m a.keras b.keras -s data -f 0",
        "-f must be 1 or more steps. Received: 0",
    ),
    "level of zero": typed(
        "Ask for relative deviations without a level.",
        "model-devi -m a.keras b.keras -s data --relative 0",
        "--relative must be above 0. Received: 0.0",
    ),
    "bounds the wrong way round": typed(
        "Give the upper bound first.",
        "model-devi -m a.keras b.keras -s data --select 0.3 0.1",
        "--select and --select-fm take a lower and a higher bound. Received: 0.3 0.1",
    ),
    "extraction without bounds": typed(
        "Extract frames without saying which.",
        "model-devi -m a.keras b.keras -s data --extract chosen",
        "--extract writes what --select or --select-fm chooses. Give one of them.",
    ),
    "no list of systems": typed(
        "Mistype the list of systems.",
        "test -f systms.txt",
        "No data file: 'systms.txt' is not a file.",
    ),
    "folder of the log": typed(
        "Put the log into a folder that is not there.",
        "train input.json -l logs/run.log",
        "The log 'logs/run.log' cannot be written: No such file or directory. Make its "
        "folder, or choose another.",
    ),
    "spins are not read": typed(
        "Say how to read spins that are only copied.",
        "convert-data data -o copy -t Ni O",
        "Spins are only copied here, so how to read them has no effect: give --layout "
        "too, or leave out --type-map.",
    ),
    "output is a folder": typed(
        "Write the filled-in input over a folder.",
        "train input.json -o data",
        "'data' is a folder, and a file is to be written. Choose another output.",
    ),
    "two outputs of one name": typed(
        "Give two outputs one name.",
        "train input.json -o lcurve.out",
        "`disp_file` and -o are both 'lcurve.out'. Give one another name.",
    ),
    "frozen over data": typed(
        "Write a frozen model over a folder of data.",
        "freeze -c model.keras -o data --force",
        "'data' is no frozen model, so it is not replaced. Choose another output.",
        model("model.keras"),
    ),
    "tolerance of nothing": typed(
        "Ask for exact tables.",
        "compress --tol 0",
        "--tol must be above 0. Received: 0.0",
    ),
    "tables end early": typed(
        "Ask for tables that end before the data does.",
        "compress -e 0.5",
        "-e must be 1 or more: tables hold what the data holds, and beyond. Received: "
        "0.5",
    ),
    "look in no evaluation": typed(
        "Look beyond the tables in one of no evaluations.",
        "compress -f 0",
        "-f must be 1 or more evaluations, or -1 for never. Received: 0",
    ),
    "folder like a file": typed(
        "Freeze or compress into a folder with the ending of a file.",
        "compress -i model.keras -o compressed.pb",
        "'compressed.pb' would be a folder, a SavedModel, but '.pb' is the ending of a "
        "file. Choose another name; `dp-spin convert-to deepmd -c MODEL` writes .pb, "
        ".dp and .yaml, of compressed models .pb.",
        model("model.keras"),
    ),
    "convert-from to a .pb": typed(
        "Take over a model into a file of DeePMD-kit's form.",
        "convert-from model.dp -o out.pb",
        "convert-from writes .keras files. Received: 'out.pb'. `dp-spin convert-to "
        "deepmd` writes those of DeePMD-kit.",
    ),
    "convert-from deepspin": typed(
        "Take over what is deepspin's.",
        "convert-from model.keras -o out.keras",
        "'model.keras' is a model of deepspin already.",
        model("model.keras"),
    ),
    "range of tables": typed(
        "Compress a model that does not know its data.",
        "compress -i model.keras",
        "'model.keras' does not tell how near the atoms of each pair of types came in "
        "its training, so that the range of the tables is not known. Give the input "
        "file of its training by -t.",
        model("model.keras"),
    ),
    "tolerance below rounding": typed(
        "Ask for tables that are more exact than numbers.",
        "compress -i model.keras -t input.json --tol 1e-17",
        "A tolerance of 1e-17 is out of reach of rounding: forces of the compressed "
        "model differ by {...} of their rms at best. Give a larger --tol, such as "
        "{...}.",
        model("model.keras"),
    ),
    "no checkpoint": typed(
        "Restart from a checkpoint that is not there.",
        "train input.json -r modle.ckpt",
        "No checkpoint: there is neither a file 'modle.ckpt' or "
        "'modle.ckpt.keras' nor any 'modle.ckpt-STEP.keras'.",
    ),
    "frozen model is Keras'": typed(
        "Give a `.keras` file to `-f`.",
        "train input.json -f model.keras",
        "-f takes models frozen by DeePMD-kit (.pb). Received: 'model.keras'. -i takes "
        "every kind of model.",
        model("model.keras"),
    ),
    "absent frozen model": typed(
        "Begin from a frozen model that is not there.",
        "train input.json -f frozen.pb",
        "No frozen model: 'frozen.pb' is not a file.",
    ),
    "absent model to convert": typed(
        "Convert a model that is not there.",
        "convert-from frozen.pb",
        "No frozen model: 'frozen.pb' is not a file.",
    ),
    "bias of other number": typed(
        "Give an energy bias for one of two types.",
        "change-bias model.keras -b -1.5 -o new.keras",
        "The energy bias needs 2 finite numbers, one for each of the types Ni O. "
        "Received: [-1.5]",
        model("model.keras"),
    ),
    "bias of no frames": typed(
        "Fit the energy bias to less than no frames.",
        "change-bias model.keras -s data -n -1",
        "-n must be 0 (all) or more frames of each system. Received: -1",
    ),
    "bias into a graph": typed(
        "Write a model with another energy bias as DeePMD-kit's.",
        "change-bias model.keras -s data -o new.pb",
        "change-bias writes .keras files. Received: 'new.pb'. `dp-spin freeze` makes a "
        ".pb or a SavedModel of one, and `dp-spin convert-to deepmd` a .dp.",
        model("model.keras"),
    ),
    "script of no model": typed(
        "Ask for the options of a model without giving one.",
        "train input.json --use-pretrain-script",
        "--use-pretrain-script takes the section `model` of a model that is begun "
        "with. Give one with -t, -i or -f.",
    ),
    "plot absent": typed(
        "Mistype the file to draw.", "plot lcurv.out", "There is no file 'lcurv.out'."
    ),
    "plot of a folder": typed(
        "Draw a folder.",
        "plot data",
        "'data' is a folder. Give the file, such as 'data/lcurve.out'.",
    ),
    "labels of other number": typed(
        "Give two names for one run.",
        "plot lcurve.out --labels old new",
        "--labels needs a label for each of the 1 files. Received: 2",
    ),
    "option for curves only": typed(
        "Ask for logarithmic steps where there are none.",
        "plot detail.e.out --log-x",
        "--log-x and --linear-y are for learning curves.",
        text("detail.e.out", DETAIL),
    ),
    "structure to draw": typed(
        "Draw a structure without times.",
        "plot nio.xyz",
        "'nio.xyz' is no trajectory of dp-spin md: it must have times, positions and "
        "spins of its frames.",
        structure(),
    ),
    "names of detail files": typed(
        "Give a name to a detail file.",
        "plot detail.e.out --labels old",
        "--labels are for runs, not for detail files.",
        text("detail.e.out", DETAIL),
    ),
    "deviations of other columns": typed(
        "Draw deviations of models, one of which had no spins.",
        "plot model_devi.out",
        "'model_devi.out' changes its columns. Split it.",
        text(
            "model_devi.out",
            "# a\n# step max_devi_f max_devi_fm\n0 1 1\n# b\n# step max_devi_f\n0 1\n",
        ),
    ),
    "picture of another kind": typed(
        "Ask for a picture of another kind.",
        "plot lcurve.out -o curve.doc",
        "A picture must end in .png, .pdf, .svg. Got 'curve.doc'.",
    ),
    "curves and details": typed(
        "Draw learning curves and detail files together.",
        "plot detail.e.out lcurve.out",
        "'lcurve.out' is a learning curve, 'detail.e.out' a detail file. Draw them "
        "in two pictures.",
        text("detail.e.out", DETAIL),
    ),
    "input to write of another kind": typed(
        "Ask for an input of another kind.",
        "init data -o input.toml",
        "'input.toml' must end in .json, .yaml, .yml.",
        text("data/type_map.raw", "Ni O"),
    ),
    "cutoff too short": typed(
        "Ask for a cutoff that is too short.",
        "init data -r 0.1 -o new.json",
        "-r must be a cutoff above 0.5 Å. Received: 0.1",
        text("data/type_map.raw", "Ni O"),
    ),
    "output exists": typed(
        "Write an input over another.",
        "init data",
        "'input.json' exists. Choose another output, or replace it with --force.",
        text("data/type_map.raw", "Ni O"),
    ),
    "cutoff negative": typed(
        "Ask for a negative cutoff.",
        "neighbor-stat -s data -t Ni O -r -6",
        "-r must be a cutoff in Å above 0. Received: -6",
    ),
    "output into data": typed(
        "Write converted data into the data.",
        "convert-data data -t Ni O -o data/new",
        "'data/new' is, holds or lies in the data 'data'. Choose another output.",
    ),
    "output over a folder": typed(
        "Write converted data over a folder of something else.",
        "convert-data data -t Ni O -o thesis --force",
        "'thesis' is a folder without systems, so it is not replaced. "
        "Choose another output, or remove it.",
        text("thesis/chapter.tex", ""),
    ),
    "use-spin of another": typed(
        "Give a spin to an element that is not there.",
        "check-data data -t Ni O --use-spin Fe",
        "--use-spin must name some of Ni O, none twice. Received: Fe",
    ),
    "virtual-len of other number": typed(
        "Give three lengths for one type with spin.",
        "check-data data -t Ni O --virtual-len 0.4 0.4 0.4",
        "--virtual-len must be one positive number for each type with "
        "spin (Ni), or one for all. Received: 0.4 0.4 0.4",
    ),
    "output under a file": typed(
        "Ask for an output below a file.",
        "train input.json -o input.json/out.json",
        "'input.json/out.json' cannot be written: File exists. Write "
        "elsewhere, or mend that.",
    ),
    "seed negative": typed(
        "Give a negative seed.",
        "test -m model.keras -s data -r -1",
        "-r must be 0 or more. Received: -1",
    ),
    "threads are a word": typed(
        "Set DP_INTRA_OP_PARALLELISM_THREADS to a word.",
        "train input.json",
        "DP_INTRA_OP_PARALLELISM_THREADS must be a number of threads, 0 "
        "for TensorFlow's choice. Received: 'four'",
        environment("DP_INTRA_OP_PARALLELISM_THREADS", "four"),
    ),
    "kernels are a word": typed(
        "Set DEEPSPIN_KERNELS to a word.",
        "train input.json",
        "DEEPSPIN_KERNELS must be 1, for the compiled kernels, or 0, for plain "
        "TensorFlow. Received: 'no'",
        environment("DEEPSPIN_KERNELS", "no"),
    ),
    "no such instructions": typed(
        "Set DEEPSPIN_INSTRUCTIONS to a name.",
        "train input.json",
        "DEEPSPIN_INSTRUCTIONS must be 1 (any processor), 3 (AVX2), 4 (AVX-512) or 0 "
        "(the best there is). Received: 'avx2'",
        environment("DEEPSPIN_INSTRUCTIONS", "avx2"),
    ),
    "workers are no JSON": typed(
        "Set TF_CONFIG to something else than JSON.",
        "train input.json",
        "TF_CONFIG is not JSON ({...}). Expected: {...}. Received: host1:12345",
        environment("TF_CONFIG", "host1:12345"),
    ),
    "workers without ports": typed(
        "Leave out the ports of workers in TF_CONFIG.",
        "train input.json",
        "TF_CONFIG must tell in `cluster` the workers' addresses, each HOST:PORT. "
        "Expected: {...}. Received: {...}",
        workers(["host1", "host2"]),
    ),
    "worker beyond the last": typed(
        "Give a worker a number that TF_CONFIG has no address for.",
        "train input.json",
        "TF_CONFIG must tell in `task` which worker this one is: worker 0 to 1. "
        "Expected: {...}. Received: {...}",
        workers(["127.0.0.1:23456", "127.0.0.1:23457"], 2),
    ),
    "a parameter server": typed(
        "Give TF_CONFIG parameter servers.",
        "train input.json",
        "TF_CONFIG: ['ps'] have nothing to do here: all train, as 'worker'. Expected: "
        "{...}. Received: {...}",
        workers(["127.0.0.1:23456"], ps=["127.0.0.1:23457"]),
    ),
    "one address for two workers": typed(
        "Give two workers one address.",
        "train input.json",
        "TF_CONFIG has an address twice. Give each worker its own. Received: {...}",
        workers(["127.0.0.1:23456", "127.0.0.1:23456"]),
    ),
    "unknown host of a worker": typed(
        "Mistype the host of another worker.",
        "train input.json",
        "TF_CONFIG: the host of worker 'nohost.invalid:23457' is not known here "
        "({...}). Give a name that all workers know, or an address.",
        workers(["127.0.0.1:23456", "nohost.invalid:23457"]),
    ),
    "worker started twice": typed(
        "Start two workers with one index, or where something else has the port.",
        "train input.json",
        "TF_CONFIG: port {...} of worker 0 ('127.0.0.1:{...}') is in use. Give each "
        "worker another index, and a port that is free.",
        port_in_use,
    ),
    "SLURM without nodes": typed(
        "Leave SLURM's variables by halves.",
        "train input.json",
        "SLURM tells of several tasks, but not where they are (KeyError: {...}). Start "
        "them with srun, or write TF_CONFIG for each: {...}",
        environment("SLURM_STEP_NUM_TASKS", "2"),
    ),
    "SLURM's tasks in turn": typed(
        "Have SLURM place tasks on the nodes in turn.",
        "train input.json",
        "SLURM's task 1 is on node 1 of ['n1', 'n2'], which have [2, 2] tasks: they "
        "are not placed node by node. Start them with srun --distribution=block.",
        environment("SLURM_STEP_NUM_TASKS", "4"),
        environment("SLURM_STEP_NODELIST", "n[1-2]"),
        environment("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
        environment("SLURM_PROCID", "1"),
        environment("SLURM_NODEID", "1"),
    ),
    "errors without labels": typed(
        "Ask how far models are from labels that are not there.",
        "model-devi -m model.keras -s data --real_error",
        "'data' has no labels to compare with, as --real_error asks: no energy, force, "
        "force_mag or virial.",
        model("model.keras"),
        *NO_LABELS,
    ),
    "errors to select by": typed(
        "Select frames by labels that are not there.",
        "model-devi -m model.keras -s data --real_error --select-fm 0.1 0.2",
        "'data' has no force_mag to select frames by.",
        model("model.keras"),
        NO_LABELS[2],
    ),
}
