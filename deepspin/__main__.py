# SPDX-License-Identifier: Apache-2.0
"""`python -m deepspin` is `dp-spin`."""

import sys

from deepspin.main import main

sys.exit(main())
