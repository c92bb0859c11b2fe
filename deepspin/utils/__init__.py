# SPDX-License-Identifier: Apache-2.0
"""Arguments, data, neighbour lists, nets, files."""
