# SPDX-License-Identifier: Apache-2.0
"""Mistakes in calls from Python."""

from __future__ import annotations

from .row import Mistake

TITLE = "Python"
ABOUT = (
    "Mistakes in calls from Python. `model` is a small model of Ni and O, "
    "`compressed` is one with tables, `potential` is `deepspin.DeepSpin(model)`; "
    "`dynamics` is `deepspin.dynamics`; `coord`, `box`, `types` and `spin` are a "
    "frame of NiO with four atoms, and so are ASE's `atoms`."
)


def python(did: str, how: str, says: str, ends: str = "ValueError") -> Mistake:
    """A call from Python."""
    return Mistake(TITLE, did, how, says, ends=ends)


ROWS = {
    "compile a compressed model": python(
        "Train a compressed model with Keras.",
        'compressed.compile("adam", deepspin.EnerSpinLoss())',
        "A compressed model cannot be trained: its embedding nets are tables. Train "
        "before compressing, the model that it was made of.",
    ),
    "a model in a strategy's scope": python(
        "Make a model in the scope of a strategy of tf.distribute.",
        "import tensorflow as tf\n"
        'with tf.distribute.MirroredStrategy(["cpu:0"]).scope():\n'
        "    type(model).from_config(model.get_config())",
        "Models are not made in the scope of a tf.distribute strategy. Received: "
        "MirroredStrategy. Keras would take each replica's loss for a mean over as "
        "many frames. Make the model outside; for several processes there are `dp-spin "
        "train` with TF_CONFIG and deepspin.training.workers.join(), one device for "
        "each.",
    ),
    "pairs beyond tables": python(
        "Evaluate atoms that are nearer than a compressed model's tables reach.",
        "deepspin.DeepSpin(compressed).eval(0.1 * coord, box, types, spin)",
        "{...} pairs are nearer than the tables of the compressed model reach, and "
        "beyond them it is another model. Compress again with a larger -e or with "
        "these frames among the data (-t), or use the model that it was made of.",
        ends="RuntimeError",
    ),
    "tables too few": python(
        "Give fewer tables than there are embedding nets.",
        "deepspin.DescrptSeA(4.0, 3.0, [20, 20, 20], 2, leaves=[3, 3])",
        "`leaves` must have 6 entries, one for each embedding net. Received: [3, 3]",
    ),
    "types that the model lacks": python(
        "Give elements that the model does not know.",
        'potential.eval(coord, box, ["Fe", "Fe", "O", "O"], spin)',
        "`atom_types` must be indices or names, one for each atom: 0 for Ni, 1 "
        "for O. Received: ['Fe', 'Fe', 'O', 'O']",
    ),
    "batches of nothing": python(
        "Ask for batches without frames.",
        "potential.eval(coord, box, types, spin, batch_size=0)",
        "`batch_size` must be an integer of at least 1. Received: 0",
    ),
    "directions for other frames": python(
        "Give three directions to two frames.",
        "potential.hvp([coord] * 2, [box] * 2, types, [spin] * 2, [coord] * 3, "
        "[spin] * 3)",
        "Numbers of directions differ. Received: 3 of `dcoords`, 3 of `dspins` for 2 "
        "frames. Give one of each for every frame, or any number for one frame.",
    ),
    "an atom missing": python(
        "Leave an atom out of the positions.",
        "potential.eval(coord[:3], box, types, spin)",
        "`coords` must have the shape (frames, 4, 3), or that of one "
        "frame, or be flat. Received: (3, 3)",
    ),
    "positions are words": python(
        "Give words as positions.",
        'potential.eval("here", box, types, spin)',
        "`coords` must hold real numbers. Received: str (no real numbers)",
    ),
    "positions not finite": python(
        "Give a position that is not finite.",
        "potential.eval(coord + np.inf, box, types, spin)",
        "`coords` of frame 0 has values that are NaN, infinite or beyond 1e+15.",
    ),
    "two cells for one frame": python(
        "Give two cells for one frame.",
        "potential.eval(coord, [box, box], types, spin)",
        "Numbers of frames differ. Received: 1 of `coords`, 1 of "
        "`spins`, 2 of `cells`. Give one of each for every frame.",
    ),
    "periodic without cell": python(
        "Ask for periodic boundaries without a cell.",
        "potential.eval(coord, None, types, spin, pbc=True)",
        "Periodic boundaries need `cells`. Received: None. Give lattice "
        "vectors, or pbc=False.",
    ),
    "two boundaries": python(
        "Give boundaries for two directions.",
        "potential.eval(coord, box, types, spin, pbc=[True, True])",
        "`pbc` must be a bool or 3 of them. Received: [True, True]",
    ),
    "cell singular": python(
        "Give a cell without volume.",
        "potential.eval(coord, 0 * box, types, spin)",
        "`cells` of frame 0 is singular: [[0.0, 0.0, 0.0], [0.0, 0.0, "
        "0.0], [0.0, 0.0, 0.0]]. Rows must be lattice vectors in Å; "
        "without periodicity pass None.",
    ),
    "spin of zero": python(
        "Give no spin to a magnetic atom.",
        "potential.eval(coord, box, types, 0 * spin)",
        "Atom 0 of frame 0 has |spin| = 0, but type 'Ni' is a spin type; "
        "its virtual atom would coincide with it. Give it a spin (1e-6 "
        "μ_B will do) or use a model with `env_protection`.",
    ),
    "atoms coincide": python(
        "Put all atoms into one place.",
        "potential.eval(0 * coord, box, types, spin)",
        "Two atoms of frame 0, or an atom and a virtual atom, are at the "
        "same place. Separate them.",
    ),
    "frame too wide": python(
        "Give lengths in fm.",
        "potential.eval(coord, box * [[1e9], [1e5], [1]], types, spin)",
        "the frame is 4.2e+09 x 4.2e+05 x 4.2 Å wide, too much for "
        "neighbours within 3.9 Å. Check that lengths are in Å; a direction "
        "without periodicity needs none.",
    ),
    "atoms without moments": python(
        "Give atoms of ASE no magnetic moments.",
        "atoms.calc = deepspin.DeepSpinCalculator(potential)\n"
        'del atoms.arrays["initial_magmoms"]\n'
        "atoms.get_potential_energy()",
        "The atoms have no magnetic moments, but types Ni have spin. Say "
        "atoms.set_initial_magnetic_moments(moments): N x 3 numbers in μ_B, or N along "
        "z.",
    ),
    "element that the model lacks": python(
        "Give atoms of ASE of an element that the model does not know.",
        "atoms.calc = deepspin.DeepSpinCalculator(potential)\n"
        'atoms.symbols[0] = "Fe"\n'
        "atoms.get_potential_energy()",
        "The model knows Ni, O, but not Fe. If types are not named like elements, tell "
        "what they are: DeepSpinCalculator(model, type_map={'Fe': 'Ni'}).",
    ),
    "mapping to no type": python(
        "Map an element to no type of the model.",
        'deepspin.DeepSpinCalculator(potential, type_map={"Fe": "iron"})',
        "`type_map` must give chemical symbols a type of the model, which are Ni, O. "
        "Received: {'Fe': 'iron'}",
    ),
    "types that are no elements": python(
        "Make a calculator of a model whose types are not named like elements.",
        'potential.model.type_map = ["metal", "ligand"]\n'
        "deepspin.DeepSpinCalculator(potential)",
        "No type of the model has the name of an element: metal, ligand. Tell what "
        "they are, such as DeepSpinCalculator(model, type_map={'Ni': 'metal'}).",
    ),
    "parameter of another calculator": python(
        "Set a parameter of another calculator.",
        'deepspin.DeepSpinCalculator(potential).set(xc="PBE")',
        "DeepSpinCalculator has one parameter, `fparam`. Received: 'xc'",
        ends="TypeError",
    ),
    "frame parameters for a model without": python(
        "Give frame parameters to a model that takes none.",
        "potential.eval(coord, box, types, spin, fparam=[300.0])",
        "The model takes no frame parameters. Received: `fparam` of shape (1,). Leave "
        "it out.",
    ),
    "no frame parameters": python(
        "Give none to a model that takes some.",
        "potential.model.fitting = deepspin.EnerFitting(2, 8, numb_fparam=2)\n"
        "potential.eval(coord, box, types, spin)",
        "The model takes 2 frame parameters: `fparam` must have the shape (1, 2), or "
        "(2,) for all frames, or be flat. Received: none",
    ),
    "frame parameters in inputs": python(
        "Give frame parameters among the inputs of a model that takes none.",
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        'model(data.batch(0)[0] | {"fparam": np.zeros((1, 2))})',
        "The model takes no frame parameters. Received: `fparam` of shape (1, 2). "
        "Leave it out.",
    ),
    "no frame parameters in inputs": python(
        "Forget them among the inputs of a model that takes some.",
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        "model.fitting = deepspin.EnerFitting(2, 8, numb_fparam=2)\n"
        "model(data.batch(0)[0])",
        "The model takes 2 frame parameters: `fparam` must be float64 of shape (2, "
        "2). Received: none",
    ),
    "numb_fparam of -1": python(
        "Ask for less than no frame parameters.",
        "deepspin.EnerFitting(2, 64, numb_fparam=-1)",
        "`numb_fparam` must be 0 or more. Received: numb_fparam=-1",
    ),
    "position far outside": python(
        "Give a position far outside the cell.",
        "potential.eval(coord + [[1e10, 0, 0], [0, 0, 0], [0, 0, 0], [0, "
        "0, 0]], box, types, spin)",
        "a point is 2.38e+09 lattice vectors away from the cell. Wrap "
        "coordinates into it, and check that they are in Å.",
    ),
    "input is a list in Python": python(
        "Give a list as the input.",
        "normalize([])",
        "The input is []; expected an object with `model`, `loss` and so on.",
        "InputError",
    ),
    "one replica without its axis": python(
        "Give positions without an axis of replicas.",
        "dynamics.State(coord=coord, spin=spin, mass=np.ones(4), atype=types)",
        "`coord` must have the shape (replicas, atoms, 3). Received: (4, 3)",
    ),
    "replicas of other shapes": python(
        "Give spins of fewer replicas than positions.",
        "dynamics.State(coord=np.stack([coord, coord]), spin=spin[None], "
        "mass=np.ones(4), atype=types)",
        "`spin` must have the shape (2, 4, 3). Received: (1, 4, 3)",
    ),
    "no mass": python(
        "Give an atom no mass.",
        "dynamics.State(coord=coord[None], spin=spin[None], mass=np.arange(4), "
        "atype=types)",
        "Masses must be positive, in amu. Received: 0.0 for atom 0",
    ),
    "timestep of zero": python(
        "Move by a timestep of 0.",
        "dynamics.Integrator(dynamics.ModelFields(potential, types, box), 0.0)",
        "`timestep` must be a positive number of fs (negative, to run back in time, "
        "only without baths). Received: 0.0",
    ),
    "bath of what stays": python(
        "Heat atoms that do not move.",
        "fields = dynamics.ModelFields(potential, types, box)\n"
        "dynamics.Integrator(fields, 0.5, lattice=False, "
        "lattice_bath=dynamics.Langevin(300.0, 0.01))",
        "A bath needs something that moves. Received: lattice=False, "
        "lattice_bath=Langevin(temperature=300.0, friction=0.01), spins=True, "
        "spin_bath=None",
    ),
    "negative temperature": python(
        "Give a bath a negative temperature.",
        "dynamics.Gilbert(-300.0, 0.1)",
        "`temperature` must be at least 0 K. Received: -300.0",
    ),
    "field of a number": python(
        "Give a field that is no vector.",
        "dynamics.Zeeman(dynamics.ModelFields(potential, types, box), 50.0)",
        "`field` must be a vector in T, or one for each replica. Received: shape ()",
    ),
    "two origins": python(
        "Begin from two models.",
        'deepspin.train("input.json", restart="a", init_model="b")',
        "Give at most one of -i (init_model), -r (restart), -f (init_frz_model), -t "
        "(finetune).",
        "InputError",
    ),
    "no systems": python(
        "Give no system.",
        "deepspin.DataSystem([], **model.data_spec)",
        "`systems` is empty. Give at least one path.",
        "DataError",
    ),
    "batch size is a word": python(
        "Give a batch size that is none.",
        'deepspin.DataSystem("data", **model.data_spec, batch_size="all")',
        "`batch_size` must be an integer, a list, 'auto' or 'auto:N'. Received: 'all'",
        "DataError",
    ),
    "batch size of zero": python(
        "Give a batch size of zero.",
        'deepspin.DataSystem("data", **model.data_spec, batch_size=0)',
        "`batch_size` must hold integers of at least 1. Received: 0",
        "DataError",
    ),
    "sel without virtual types in data": python(
        "Give no `sel` for the virtual atoms.",
        "scheme = model.spin.scheme\n"
        'deepspin.DataSystem("data", ["Ni", "O"], scheme, 3.0, sel=[20, 20])',
        "`sel` must have 3 numbers from 0 on: one for each type, and one for each spin "
        "type's virtual atoms, which `spin.extend_sel(sel)` appends. Received: "
        "[20, 20]",
    ),
    "layer for a scheme": python(
        "Give the layer instead of the spin scheme.",
        'deepspin.DataSystem("data", ["Ni", "O"], model.spin, 3.0)',
        "`spin` must be a spin scheme, such as `model.spin.scheme`. Received: Spin",
        "TypeError",
    ),
    "rcut of zero": python(
        "Give a cutoff of zero.",
        'deepspin.DataSystem("data", ["Ni", "O"], model.spin.scheme, 0)',
        "`rcut` must be a length in Å above 0. Received: 0",
    ),
    "seed of -1": python(
        "Give a negative seed.",
        'deepspin.DataSystem("data", **model.data_spec, seed=-1)',
        "`seed` must be 0 or more. Received: -1",
    ),
    "unknown auto_prob": python(
        "Mistype `auto_prob`.",
        'deepspin.DataSystem("data", **model.data_spec, auto_prob="uniform")',
        "`auto_prob` must be 'prob_uniform', 'prob_sys_size' or "
        "'prob_sys_size;BEGIN:END:WEIGHT;...'. Received: 'uniform'",
        "DataError",
    ),
    "type_map of another length": python(
        "Give a type map of another length.",
        'deepspin.DataSystem("data", **(model.data_spec | {"type_map": ["Ni"]}))',
        "`type_map` must name the 2 types of the spin scheme. Received: ['Ni']",
    ),
    "no type.raw": python(
        "Load a folder that is no system.",
        'load_system("data/set.000", ["Ni", "O"], model.spin.scheme)',
        "'data/set.000' has no type.raw, so it is no system. Give the "
        "folder or group that has it.",
        "DataError",
    ),
    "loss function unknown": python(
        "Ask for a loss function that is not there.",
        'deepspin.EnerSpinLoss(loss_func="huber")',
        "`loss_func` must be 'mse' or 'mae'. Received: 'huber'",
    ),
    "no last rate": python(
        "Give no last learning rate.",
        "deepspin.ExpDecay(1e-3, 1000)",
        "Give one of `stop_lr` and `stop_lr_ratio`. Received: "
        "stop_lr=None, stop_lr_ratio=None",
    ),
    "learning rate of zero": python(
        "Begin with a learning rate of 0.",
        "deepspin.ExpDecay(0.0, 1000, stop_lr=1e-8)",
        "`start_lr` must be positive. Received: 0.0",
    ),
    "warm-up of all steps": python(
        "Warm up in all steps.",
        "deepspin.ExpDecay(1e-3, 1000, stop_lr=1e-8, warmup_steps=1000)",
        "The warm-up must end before the training. Received: 1000 of 1000 steps",
    ),
    "rcut_smth beyond rcut": python(
        "Begin to smooth beyond the cutoff.",
        "deepspin.DescrptSeA(rcut=4.0, rcut_smth=5.0, sel=[20, 20, 20], ntypes=2)",
        "`rcut_smth` must be at least 0 and below `rcut`. Received: "
        "rcut_smth=5.0, rcut=4.0",
    ),
    "axis_neuron beyond neuron": python(
        "Keep more columns than there are.",
        "deepspin.DescrptSeA(rcut=6.0, rcut_smth=5.0, sel=[20, 20, 20], "
        "ntypes=2, neuron=[8, 16], axis_neuron=32)",
        "`axis_neuron` must not exceed the last width of `neuron`. "
        "Received: axis_neuron=32, neuron=[8, 16]",
    ),
    "trainable_layers": python(
        "Give `trainable_layers` for the hidden layers only.",
        "deepspin.EnerFitting(2, 64, neuron=[8, 8], trainable_layers=[True, True])",
        "`trainable_layers` needs one entry for each hidden layer and "
        "one for the last. Received: [True, True] for [8, 8]",
    ),
    "unknown activation": python(
        "Ask for an activation function that is not there.",
        'deepspin.EnerFitting(2, 64, neuron=[8, 8], activation_function="sine")',
        "Unknown activation function. Received: 'sine'; expected one of "
        "['gelu', 'gelu_tf', 'linear', 'none', 'relu', 'relu6', "
        "'sigmoid', 'silu', 'silut', 'softplus', 'tanh'] or "
        "'silut:THRESHOLD'.",
    ),
    "spin without lengths": python(
        "Give a spin scheme no lengths.",
        "deepspin.Spin([True, False])",
        "Give either `virtual_len` and `spin_norm`, or `virtual_scale`.",
    ),
    "spin with two lengths": python(
        "Give two lengths for one spin type.",
        "deepspin.Spin([True, False], virtual_len=[0.4, 0.4], spin_norm=[1.2, 1.2])",
        "1 types have a spin, but 2 values were given for `virtual_len`, "
        "`spin_norm` or `virtual_scale`.",
    ),
    "spin scale negative": python(
        "Give a negative scale.",
        "deepspin.Spin([True, False], virtual_scale=[-0.3])",
        "`virtual_len`, `spin_norm` and `virtual_scale` must be positive. Received: "
        "-0.3",
    ),
    "sel without virtual types": python(
        "Give the model a descriptor without the virtual types.",
        "deepspin.SpinEnergyModel(model.type_map, "
        "deepspin.DescrptSeA(rcut=3.0, rcut_smth=2.0, sel=[20, 20], "
        "ntypes=2), model.fitting, model.spin)",
        "`descriptor.sel` needs 3 entries, for each type and each spin type's virtual "
        "atoms: `spin.scheme.extend_sel(sel)`. Received: (20, 20)",
    ),
    "metrics of no output": python(
        "Ask Keras for metrics of no output in particular.",
        'model.compile("adam", deepspin.EnerSpinLoss(), metrics=["mae"])',
        '`metrics` must be a dict from outputs to metrics, such as {"force_mag": "mae"}'
        ", the outputs of ('energy', 'virial', 'force', 'force_mag', 'atom_ener'). "
        "Received: ['mae']",
    ),
    "weights of losses": python(
        "Weigh the terms of the loss in Keras' way.",
        'model.compile("adam", deepspin.EnerSpinLoss(), loss_weights={"force": 2})',
        "['loss_weights'] have no use here: the loss sees the whole dict of outputs "
        "and has prefactors of its own; `metrics` are weighted already.",
    ),
    "loss by name": python(
        "Give a loss that sees one array.",
        'model.compile("adam", "mse")',
        "`loss` sees dicts of labels and outputs: deepspin.EnerSpinLoss(...), or a "
        "keras.losses.Loss of your own. Received: 'mse'",
        ends="TypeError",
    ),
    "data without an end": python(
        "Train on data that never end, and do not say how much of them is an epoch.",
        'model.compile("adam", deepspin.EnerSpinLoss(), jit_compile=False)\n'
        'model.fit(deepspin.DataSystem("data", **model.data_spec).dataset())',
        "The data set never ends, and nor would an epoch: give `steps_per_epoch` "
        "(`steps` of evaluate and predict, `validation_steps` of validation data), or "
        "`DataSystem.dataset(steps=...)`, or the DataSystem itself.",
    ),
    "inputs that are incomplete": python(
        "Call a model with positions and spins alone.",
        'model({"coord": coord[None], "spin": spin[None], "box": box[None]})',
        "A model's inputs are a dict of ['coord', 'spin', 'box', 'mask', 'nlist', "
        "'shift'], which DataSystem makes: `data.batch(0)[0]`. Received: no ['mask', "
        "'nlist', 'shift']. For frames as they are there is "
        "deepspin.DeepSpin(model).eval",
    ),
    "weights of samples": python(
        "Weigh frames in Keras' way.",
        'model.compile("adam", deepspin.EnerSpinLoss(), jit_compile=False)\n'
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        "model.train_on_batch(*data.batch(0), sample_weight=coord[:1, 0])",
        "`sample_weight` and `class_weight` have no use here: a label counts with its "
        "`find_NAME` (nf,), 0 or 1; DataSystem draws systems by `sys_probs`.",
    ),
    "arrays of different length": python(
        "Train on more frames than there are labels for.",
        'model.compile("adam", deepspin.EnerSpinLoss(), jit_compile=False)\n'
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        'model.fit(data.batch(0)[0], {"energy": coord[:0, 0]})',
        "Arrays of inputs and labels must have the same number of frames. Received: "
        "[0, 2]",
    ),
    "validation split of batches": python(
        "Split data that come in batches.",
        'model.compile("adam", deepspin.EnerSpinLoss(), jit_compile=False)\n'
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        "model.fit(data, validation_split=0.1)",
        "`validation_split` is for dicts of arrays. Give `validation_data` to data "
        "that comes in batches.",
    ),
    "validation split of few": python(
        "Split fewer frames than can be split.",
        'model.compile("adam", deepspin.EnerSpinLoss(), jit_compile=False)\n'
        'data = deepspin.DataSystem("data", **model.data_spec, batch_size=1)\n'
        "model.fit(*data.batch(0), validation_split=0.1)",
        "`validation_split` of 0.1 leaves no frames to one side of 1. Give another, or "
        "`validation_data`.",
    ),
    "labels that are missing": python(
        "Train on inputs alone.",
        'model.compile("adam", deepspin.EnerSpinLoss(), jit_compile=False)\n'
        'data = deepspin.DataSystem("data", **model.data_spec)\n'
        "model.fit(data.batch(0)[0])",
        "Labels must be a dict of arrays, such as `energy` and `force`. Received: "
        "NoneType",
        ends="TypeError",
    ),
    "no loss": python(
        "Train without a loss.",
        'model.compile("adam", '
        'jit_compile=False)\nmodel.fit(deepspin.DataSystem("data", '
        "**model.data_spec).dataset(steps=1), shuffle=False)",
        "No loss: pass `loss=deepspin.EnerSpinLoss(...)` to compile.",
    ),
    "part that is none": python(
        "Let the learning rate fall in no part of the training.",
        "deepspin.WarmupStableDecay(1e-3, 1000, stop_lr=1e-5, decay_phase_ratio=0)",
        "`decay_phase_ratio` must be above 0 and at most 1. Received: 0",
    ),
    "unknown fall": python(
        "Let the learning rate fall in a way that is not there.",
        'deepspin.WarmupStableDecay(1e-3, 1000, stop_lr=1e-5, decay_type="exp")',
        "`decay_type` must be one of ['inverse_linear', 'cosine', 'linear']. Received: "
        "'exp'",
    ),
    "inverse of nothing": python(
        "Let the inverse of the learning rate grow without an end.",
        "deepspin.WarmupStableDecay(1e-3, 1000, stop_lr=0.0)",
        "`stop_lr` must be above 0 with `decay_type` 'inverse_linear', which divides "
        "by it. Received: 0.0",
    ),
    "an old format": python(
        "Save a model as HDF5 with Keras.",
        'model.save("model.h5")',
        "Models are saved as '.keras', with all that they hold. Received: 'model.h5'. "
        "For weights alone there is `save_weights`.",
    ),
    "export": python(
        "Export a model with Keras.",
        'model.export("served")',
        "`export` would serve sorted and padded arrays. Save the model, and `dp-spin "
        "freeze -c model.keras -o frozen_model` writes a SavedModel that takes frames "
        "as they are.",
    ),
    "name of a model file": python(
        "Save a model under another ending.",
        'deepspin.save_model(model, "model.h5")',
        "A model file must end in '.keras'. Received: 'model.h5'",
    ),
    "temperatures that fall": python(
        "Exchange replicas whose temperatures fall.",
        "dynamics.HybridMonteCarlo(potential, [400.0, 300.0])",
        "`temperature` must rise from replica to replica if these are to be exchanged. "
        "Received: [400.0, 300.0]",
    ),
    "samples at no temperature": python(
        "Sample at 0 K.",
        "dynamics.HybridMonteCarlo(potential, [0.0])",
        "`temperature` must be a list of numbers > 0 in K. Received: [0.0]",
    ),
    "no leaps": python(
        "Ask for trajectories without leaps.",
        "dynamics.HybridMonteCarlo(potential, [300.0], leaps=0)",
        "`leaps` must be at least 1, and `acceptance` between 0 and 1. Received: 0 and "
        "0.7",
    ),
    "unknown name": python(
        "Mistype a name of deepspin's.",
        "deepspin.DeepSpn",
        "module 'deepspin' has no attribute 'DeepSpn'",
        "AttributeError",
    ),
    "documentation": python(
        "Ask for documentation in a format that is not there.",
        'gen_doc("md")',
        "`out_type` must be 'rst', 'json' or 'json_schema'. Received: 'md'",
    ),
}
