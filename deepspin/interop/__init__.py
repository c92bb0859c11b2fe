# SPDX-License-Identifier: Apache-2.0
"""How others' files are read and written."""
