# SPDX-License-Identifier: Apache-2.0
"""Mistakes in the input of a training."""

from __future__ import annotations

import json

from .row import TRAIN, Mistake
from .steps import MISSING, option, text

TITLE = "Input file"
ABOUT = "Mistakes in `input.json`, noticed by `dp-spin train input.json`."
TRAINING = "training/training_data"


def given(did: str, says: str, place: str, value: object, *more: tuple) -> Mistake:
    """One or more options of the input; `place` and `value`, and more such pairs."""
    pairs = [(place, value), *more]
    shows = "\n".join(
        f"{p}: {'(left out)' if v is MISSING else json.dumps(v)}" for p, v in pairs
    )
    steps = [option(*pair) for pair in pairs]
    return Mistake(TITLE, did, TRAIN, says, steps, shows=shows)


def written(did: str, name: str, content: str | bytes, says: str) -> Mistake:
    """An input file as it is written."""
    steps = [text(name, content)]
    shows = content if isinstance(content, str) else repr(content)[2:-1]
    return Mistake(TITLE, did, f"train {name}", says, steps, shows=shows.strip())


ROWS = {
    "folder as an input": Mistake(
        TITLE,
        "Name a folder instead of an input file.",
        "train odd.json",
        "'odd.json' is a folder, not an input file. Name a file, such as one in it.",
        (text("odd.json/notes", "to do"),),
    ),
    "absent input": Mistake(
        TITLE,
        "Name an input file that is not there.",
        "train inptu.json",
        "There is no input file 'inptu.json'. Did you mean 'input.json'?",
    ),
    "input of another kind": written(
        "Give an input file with another ending.",
        "input.toml",
        "",
        "'input.toml' must end in .json, .yaml or .yml. Write it in JSON or YAML.",
    ),
    "input is not text": written(
        "Give a file that is no text.",
        "input.json",
        b'{"model": "\xff"}',
        "'input.json' is not text in UTF-8: invalid start byte at byte "
        "11. Save it in UTF-8.",
    ),
    "input is not JSON": written(
        "Forget a comma.",
        "input.json",
        '{\n  "model": {}\n  "loss": {}\n}',
        "'input.json' is not valid JSON: Expecting ',' delimiter at line "
        "3, column 3. Correct it there, or just before.",
    ),
    "input is not YAML": written(
        "Open a bracket and do not close it.",
        "input.yaml",
        "model:\n  type_map: [Ni, O\n  spin: {}\n",
        "'input.yaml' is not valid YAML: expected ',' or ']', but got "
        "':' at line 3, column 7. Correct it there, or just before.",
    ),
    "input is a list": written(
        "Wrap the input in a list.",
        "input.json",
        "[{}]",
        "'input.json' must hold an object at its top level, with "
        "`model`, `loss` and so on. Received: list",
    ),
    "key given twice": written(
        "Give a key twice in one object.",
        "input.json",
        '{"model": {"rcut": 5.0, "rcut": 6.0}}',
        "'input.json' gives `rcut` 2 times in one object. Keep one.",
    ),
    "key is no text": written(
        "Use a number as a key, in YAML.",
        "input.yaml",
        "model: {1: 2}\n",
        "The key 1 at `model` is not text; quote it.",
    ),
    "typo": given(
        "Mistype a key.",
        "`model/descriptor/rcutt` is not a key of the input: did you mean `rcut`?",
        "model/descriptor/rcutt",
        6.0,
    ),
    "key in another section": given(
        "Put a key into the wrong section.",
        "`model/rcut` is not a key of the input: it belongs to `model/descriptor`.",
        "model/rcut",
        6.0,
    ),
    "key and its alias": given(
        "Give an option under both of its names.",
        "`training/stop_batch` is not a key of the input: it is another "
        "name of `numb_steps`, which is also given; keep one.",
        "training/stop_batch",
        1000,
    ),
    "unknown key": given(
        "Give a key that is like none.",
        "`training/validation_data/colour` is not a key of the input: "
        "the keys there are `systems`, `rglob_patterns`, `batch_size`, "
        "`auto_prob`, `sys_probs`, `numb_btch`.",
        "training/validation_data",
        {"systems": ["data"], "colour": "blue"},
    ),
    "missing key": given(
        "Leave out an option that has no default.",
        "`learning_rate/start_lr` is missing, and has no default. Add it: Learning "
        "rate at the first step after the warm-up.",
        "learning_rate/start_lr",
        MISSING,
    ),
    "no length": given(
        "Forget how long to train.",
        "`training/numb_steps` is missing, and has no default. Add it: Number of "
        "training steps, of one batch each; or `numb_epoch`, the number of times that "
        "the data are drawn.",
        "training/numb_steps",
        MISSING,
    ),
    "two lengths": given(
        "Give steps and epochs.",
        "`training` has `numb_steps` and also `numb_epoch`; give one of them.",
        "training/numb_epoch",
        2.5,
    ),
    "folder and path from the root": given(
        "Give `save_dir` beside a path that begins with `/`.",
        '`training/save_ckpt` is "/tmp/model.ckpt", a path from the root, which '
        '`save_dir`, "files", cannot stand before. Give one of them.',
        "training/save_dir",
        "files",
        ("training/save_ckpt", "/tmp/model.ckpt"),
    ),
    "averages of no step": given(
        "Ask for averaged weights of no steps.",
        "`training/enable_ema` is true; expected false with `numb_steps` 0.",
        "training/enable_ema",
        True,
        ("training/numb_steps", 0),
    ),
    "validation of no averages": given(
        "Validate averaged weights without averaging.",
        "`validating/ema_full_validation` is true; expected false without "
        "`training/enable_ema`, which makes the averaged model.",
        "validating",
        {"ema_full_validation": True},
    ),
    "validation of no data": given(
        "Ask for a full validation without validation data.",
        "`validating/full_validation` evaluates all of `training/validation_data`, "
        "which is missing. Add it.",
        "validating",
        {"full_validation": True},
    ),
    "metric without weight": given(
        "Choose the best model by what the loss leaves out.",
        '`validating/validation_metric` is "V:MAE"; expected an error that the loss '
        "weighs, with `loss/start_pref_v` and `loss/limit_pref_v` above 0.",
        "validating",
        {"full_validation": True, "validation_metric": "V:MAE"},
        ("training/validation_data", {"systems": ["data"]}),
    ),
    "metric without label": given(
        "Choose the best model by what the data do not tell.",
        '`validating/validation_metric` is "V:MAE"; expected one of E, FR, FM with '
        ":MAE or :RMSE, as no system of `training/validation_data` has 'virial'.",
        "validating",
        {"full_validation": True, "validation_metric": "V:MAE"},
        ("training/validation_data", {"systems": ["data"]}),
        ("loss/start_pref_v", 1.0),
        ("loss/limit_pref_v", 1.0),
    ),
    "wrong type": given(
        "Write the number of steps as 1e6.",
        "`training/numb_steps` is 1000000.0; expected type int or null. Write 1000000.",
        "training/numb_steps",
        1e6,
    ),
    "unknown choice": given(
        "Ask for a descriptor that nobody has.",
        '`model/descriptor/type` is "se_e2_b"; expected one of "se_e2_a".',
        "model/descriptor/type",
        "se_e2_b",
    ),
    "out of range": given(
        "Give a negative cutoff.",
        "`model/descriptor/rcut` is -6.0; expected a number > 0.",
        "model/descriptor/rcut",
        -6.0,
    ),
    "boolean for a number": given(
        "Give `true` where a number belongs.",
        "`model/descriptor/rcut` is true; expected a number.",
        "model/descriptor/rcut",
        True,
    ),
    "not finite": given(
        "Give infinity, which Python's JSON can hold.",
        "`learning_rate/start_lr` is Infinity; expected finite numbers.",
        "learning_rate/start_lr",
        float("inf"),
    ),
    "integer too large": given(
        "Train for ever.",
        "`training/numb_steps` is 1000000000000000000000; expected integers of 64 "
        "bits.",
        "training/numb_steps",
        10**21,
    ),
    "choice of DeePMD-kit": given(
        "Ask for a descriptor of DeePMD-kit's that deepspin lacks.",
        '`model/descriptor/type` is "dpa2", which DeePMD-kit has but '
        'deepspin has not: use "se_e2_a".',
        "model/descriptor/type",
        "dpa2",
    ),
    "option of DeePMD-kit": given(
        "Use an option of DeePMD-kit's that deepspin lacks.",
        '`training/mixed_precision` is {"compute_prec": "float16"}, '
        "which DeePMD-kit has but deepspin has not: remove it; set "
        "`precision` of the descriptor and the fitting net.",
        "training/mixed_precision",
        {"compute_prec": "float16"},
    ),
    "section of the wrong type": given(
        "Switch a section on that only DeePMD-kit has.",
        "`nvnmd` is true; expected an object.",
        "nvnmd",
        True,
    ),
    "no spin section": given(
        "Use an input for a model without spins.",
        "`model/spin` is missing: deepspin fits models with spins. Add "
        'for example "spin": {"use_spin": [true, false], "virtual_len": '
        '[0.4], "spin_norm": [1.2737]}, or use DeePMD-kit for a model '
        "without spins.",
        "model/spin",
        MISSING,
    ),
    "no type of the loss": given(
        "Leave out the type of the loss.",
        '`loss/type` is missing, which stands for "ener" in DeePMD-kit; '
        'use "ener_spin", with `start_pref_fr` and `start_pref_fm` for '
        "the forces.",
        "loss/type",
        MISSING,
    ),
    "type twice": given(
        "Name a type twice.",
        '`model/type_map` is ["Ni", "Ni"]; expected at least one name, '
        "none twice or empty.",
        "model/type_map",
        ["Ni", "Ni"],
    ),
    "no spin_norm": given(
        "Give `virtual_len` without `spin_norm`.",
        "`model/spin` lacks `spin_norm`; give `virtual_len` (Å) with "
        "`spin_norm` (μ_B), or `virtual_scale` (Å/μ_B).",
        "model/spin/spin_norm",
        MISSING,
    ),
    "virtual_scale and virtual_len": given(
        "Give `virtual_scale` beside `virtual_len`.",
        "`model/spin` has `virtual_scale` and also `virtual_len`; give "
        "`virtual_len` with `spin_norm`, or `virtual_scale` alone.",
        "model/spin/virtual_scale",
        0.3,
    ),
    "use_spin too short": given(
        "Give one boolean for two types.",
        "`model/spin/use_spin` is [true]; expected 2 booleans, one per "
        'type of ["Ni", "O"].',
        "model/spin/use_spin",
        [True],
    ),
    "use_spin names another": given(
        "Give a spin to an element that is not in `type_map`.",
        '`model/spin/use_spin` is ["Fe"]; expected some of ["Ni", "O"], none twice.',
        "model/spin/use_spin",
        ["Fe"],
    ),
    "use_spin mixed": given(
        "Mix booleans and indices in `use_spin`.",
        "`model/spin/use_spin` is [true, 1]; expected all booleans, all "
        "type indices or all names of types.",
        "model/spin/use_spin",
        [True, 1],
    ),
    "names of virtual atoms": given(
        "Name virtual atoms in another order than DeePMD-kit's.",
        '`model/type_map` is ["Ni", "Ni_spin", "O"]; expected ["Ni", "O", "Ni_spin"]: '
        "the names of atoms, then, if at all, those of the virtual atoms of all that "
        "have a spin, in that order.",
        "model/type_map",
        ["Ni", "Ni_spin", "O"],
    ),
    "no spin types": given(
        "Give no type a spin.",
        "`model/spin/use_spin` is [false, false]; expected at least one "
        "spin type. Name the magnetic types.",
        "model/spin/use_spin",
        [False, False],
    ),
    "virtual_len in the other scheme": given(
        "Give `virtual_len` under the scheme `invariant`.",
        "`model/spin/virtual_len` is an option of the scheme `ener_spin`, "
        'and `model/spin/type` is "invariant". Remove the option, or change `type`.',
        "model/spin",
        {"type": "invariant", "use_spin": ["Ni"], "virtual_len": [0.4]},
    ),
    "more products than radial functions": given(
        "Let more radial functions enter products than there are.",
        "`model/spin/baseline/ncross` is 20; expected at most `nradial` = 14.",
        "model/spin",
        {"type": "invariant", "use_spin": ["Ni"], "baseline": {"ncross": 20}},
    ),
    "baseline of nothing": given(
        "Give every label of the baseline the weight 0.",
        "`model/spin/baseline` has all weights at 0, so there is nothing to "
        "fit; expected at least one of `weight_e`, `weight_fr`, `weight_fm_along`, "
        "`weight_fm_across`, `weight_v` > 0, or `baseline`: false.",
        "model/spin",
        {
            "type": "invariant",
            "use_spin": ["Ni"],
            "baseline": {
                "weight_e": 0.0,
                "weight_fr": 0.0,
                "weight_fm_along": 0.0,
                "weight_fm_across": 0.0,
                "weight_v": 0.0,
            },
        },
    ),
    "types excluded in the other scheme": given(
        "Exclude pairs of types under the scheme `invariant`.",
        "`model/descriptor/exclude_types` is [[0, 1]]; expected [] with the "
        "scheme `invariant`. Every type sees every other there.",
        "model/spin",
        {"type": "invariant", "use_spin": ["Ni"]},
        ("model/descriptor/exclude_types", [[0, 1]]),
    ),
    "factor to be fitted without a baseline": given(
        "Have the factor of the magnetic forces fitted under `ener_spin`.",
        '`training/training_data/force_mag_factor` is "fit"; expected a '
        'number: only the baseline of `"spin": {"type": "invariant"}` finds it.',
        "training/training_data/force_mag_factor",
        "fit",
    ),
    "turns taught to a model that knows": given(
        "Teach a model of the scheme `invariant` that all spins can turn.",
        '`training/augmentation` has "spin_rotation", which is exact in this model '
        "(`model/spin`) and need not be learnt. Remove it.",
        "model/spin",
        {"type": "invariant", "use_spin": ["Ni"]},
        ("training/augmentation", ["spin_rotation"]),
    ),
    "turns against spin-orbit coupling": given(
        "Turn all spins of frames with spin-orbit coupling.",
        '`training/augmentation` has "spin_rotation", for data without spin-orbit '
        "coupling, and `model/spin/soc` is true. Remove it, or set `soc` to false.",
        "model/spin",
        {"type": "invariant", "use_spin": ["Ni"], "soc": True},
        ("training/augmentation", ["spin_rotation"]),
    ),
    "virtual_len of other length": given(
        "Give one `virtual_len` in a list, for two spin types of three.",
        "`model/spin/virtual_len` is [0.4]; expected one number for all, "
        "or a list of 2 (one per spin type, Ni, Fe) or 3 (one per type "
        "of `model/type_map`).",
        "model/type_map",
        ["Ni", "Fe", "O"],
        ("model/spin/use_spin", ["Ni", "Fe"]),
    ),
    "virtual_len zero": given(
        "Set `virtual_len` to 0.",
        "`model/spin/virtual_len` is [0.0]; expected numbers > 0.",
        "model/spin/virtual_len",
        [0.0],
    ),
    "sel of other length": given(
        "Give `sel` for the virtual atoms too.",
        "`model/descriptor/sel` is [20, 20, 20]; expected 2 numbers, one "
        "per type of `model/type_map`. Those for spins are added by "
        "deepspin.",
        "model/descriptor/sel",
        [20, 20, 20],
    ),
    "sel zero": given(
        "Set `sel` of a spin type to 0.",
        "`model/descriptor/sel` is [0, 20]; expected a number >= 1 for each spin type.",
        "model/descriptor/sel",
        [0, 20],
    ),
    "rcut_smth too large": given(
        "Begin to smooth beyond the cutoff.",
        "`model/descriptor/rcut_smth` is 6.5; expected less than `rcut` = 3.0 (Å).",
        "model/descriptor/rcut_smth",
        6.5,
    ),
    "axis_neuron too large": given(
        "Keep more columns than the embedding net has.",
        "`model/descriptor/axis_neuron` is 16; expected at most the last "
        "of `neuron` = [2, 4].",
        "model/descriptor/axis_neuron",
        16,
    ),
    "exclude_types": given(
        "Exclude a type that is not there.",
        "`model/descriptor/exclude_types` is [[0, 7]]; expected pairs of "
        "type indices from 0 to 2.",
        "model/descriptor/exclude_types",
        [[0, 7]],
    ),
    "trainable of other length": given(
        "Give `trainable` for the hidden layers only.",
        "`model/fitting_net/trainable` is [true, true]; expected 3 "
        "booleans: one per hidden layer and one for the output.",
        "model/fitting_net/trainable",
        [True, True],
    ),
    "atom_ener of other length": given(
        "Give one energy for two types.",
        "`model/fitting_net/atom_ener` is [-100.0]; expected 2 numbers "
        "or nulls, one per type, or 3, one more per spin type.",
        "model/fitting_net/atom_ener",
        [-100.0],
    ),
    "stop_lr twice": given(
        "Give the last learning rate in two ways.",
        "`learning_rate` has `stop_lr` and also `stop_lr_ratio`; give one of them.",
        "learning_rate/stop_lr_ratio",
        1e-3,
    ),
    "stop_lr too large": given(
        "Let the learning rate rise.",
        "`learning_rate/stop_lr` is 0.1; expected at most `start_lr` = 0.001.",
        "learning_rate/stop_lr",
        0.1,
    ),
    "inverse of stop_lr": given(
        "Let the inverse of the learning rate grow without an end.",
        "`learning_rate/stop_lr` is 0; expected above 0 with `decay_type` "
        '"inverse_linear", which divides by it.',
        "learning_rate",
        {"type": "wsd", "start_lr": 1e-3, "stop_lr": 0},
    ),
    "warmup twice": given(
        "Give the warm-up in two ways.",
        "`learning_rate` has `warmup_steps` and also `warmup_ratio`; give one of them.",
        "learning_rate/warmup_steps",
        1,
        ("learning_rate/warmup_ratio", 0.1),
    ),
    "warmup too long": given(
        "Warm up longer than the training is.",
        "`learning_rate/warmup_steps` is 5; expected less than "
        "`training/numb_steps` = 3.",
        "learning_rate/warmup_steps",
        5,
    ),
    "no statistics to read": given(
        "Read statistics from a file that is not there.",
        "`training/stat_file` is 'stat.hdf5', which does not exist, and "
        '`stat_file_mode` is "read". Correct the path, or use "update".',
        "training/stat_file",
        "stat.hdf5",
        ("training/stat_file_mode", "read"),
    ),
    "read mode without a file": given(
        "Read statistics, and do not say where from.",
        '`training/stat_file_mode` is "read"; expected "update" without `stat_file`.',
        "training/stat_file_mode",
        "read",
    ),
    "statistics in a text file": Mistake(
        TITLE,
        "Give a file of another kind for the statistics.",
        TRAIN,
        "`training/stat_file` is 'stat.hdf5', which is no HDF5 file. Give another "
        "path, or remove the file.",
        [option("training/stat_file", "stat.hdf5"), text("stat.hdf5", "0.1 0.2")],
        shows='training/stat_file: "stat.hdf5"',
    ),
    "statistics of an invariant model": given(
        "Put the statistics of an invariant model into a file.",
        '`training/stat_file` is "stat.hdf5"; expected none for an invariant model, '
        "whose statistics no such file has a place for. Remove it.",
        "training/stat_file",
        "stat.hdf5",
        ("model/spin", {"type": "invariant", "use_spin": ["Ni"]}),
    ),
    "two profiles": given(
        "Ask for a timeline and for TensorBoard's profile.",
        "`training` has `profiling` and also `enable_profiler`, and TensorFlow makes "
        "one profile at a time; give one of them.",
        "training/profiling",
        True,
        ("training/enable_profiler", True),
    ),
    "nothing to learn": given(
        "Set all weights of the loss to 0.",
        "`loss` has all weights at 0, so there is nothing to learn; "
        "expected at least one of `start_pref_*` and `limit_pref_*` > 0.",
        "loss",
        {"type": "ener_spin"}
        | {
            f"{end}_pref_{t}": 0
            for end in ("start", "limit")
            for t in ("e", "fr", "fm")
        },
    ),
    "nothing to train": given(
        "Hold all weights fixed.",
        "Nothing to train: `model/descriptor/trainable` and "
        "`model/fitting_net/trainable` are false. Set one of them to "
        "true.",
        "model/descriptor/trainable",
        False,
        ("model/fitting_net/trainable", False),
    ),
    "batch sizes of other number": given(
        "Give two batch sizes for one system.",
        "`batch_size` has 2 entries, but `systems` has 1: 'data'. Give one for each.",
        f"{TRAINING}/batch_size",
        [1, 2],
    ),
    "auto_prob of absent systems": given(
        "Give probabilities to systems that are not there.",
        "`auto_prob` blocks are BEGIN:END:WEIGHT for the systems from "
        "BEGIN to END - 1, and the last one is 0. Received: '3:5:1.0' of "
        "'prob_sys_size;3:5:1.0'",
        f"{TRAINING}/auto_prob",
        "prob_sys_size;3:5:1.0",
    ),
    "auto_prob overlaps": given(
        "Let blocks of systems overlap.",
        "`auto_prob` blocks '0:1:0.5' and '0:1:0.5' both hold system 0. "
        "Let blocks not overlap; END is not included.",
        f"{TRAINING}/auto_prob",
        "prob_sys_size;0:1:0.5;0:1:0.5",
    ),
    "auto_prob all zero": given(
        "Give a system the probability 0.",
        "Probabilities of systems (`auto_prob`, `sys_probs`) must be finite, not "
        "negative and not all 0. Received: [0.0]",
        f"{TRAINING}/auto_prob",
        "prob_sys_size;0:1:0",
    ),
}
