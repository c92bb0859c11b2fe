# SPDX-License-Identifier: Apache-2.0
"""How wrong we are: losses."""
