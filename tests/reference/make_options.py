# SPDX-License-Identifier: Apache-2.0
"""Write the options of DeePMD-kit's input for models with spins.

python make_options.py FILE
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from deepmd.utils.argcheck import gen_args

# of each section with a choice of `type`, the choices that an energy of spins can have;
# all choices of the others
CHOSEN = {
    "model": {"standard"},
    "model/descriptor": {"se_e2_a"},
    "model/fitting_net": {"ener"},
    "loss": {"ener_spin"},
}
# sections that are models of their own, or of other models
LEFT_OUT = {"model/modifier", "model/type_embedding", "model/compress"}


def walk(arguments, parent, table):
    """Options by their path: other names, and choices."""
    for argument in arguments:
        path = f"{parent}/{argument.name}".strip("/")
        table.setdefault(path, {"alias": [*argument.alias], "choices": []})
        if path in LEFT_OUT:
            continue
        walk(argument.sub_fields.values(), path, table)
        for flag, variant in argument.sub_variants.items():
            choices = variant.choice_dict
            aliases = variant.choice_alias
            names = sorted({*choices, *aliases})
            table[f"{path}/{flag}"] = {"alias": [], "choices": names}
            for name, choice in choices.items():
                if name in CHOSEN.get(path, choices):
                    walk(choice.sub_fields.values(), path, table)


def main(path):
    """Write the file."""
    table: dict = {}
    walk(gen_args(), "", table)
    content = {"deepmd-kit": version("deepmd-kit"), "options": table}
    Path(path).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
