# SPDX-License-Identifier: Apache-2.0
"""How data come in and go out: files, systems, neighbour lists, batches, layouts."""
