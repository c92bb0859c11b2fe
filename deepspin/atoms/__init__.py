# SPDX-License-Identifier: Apache-2.0
"""Structures with spins: files, units, waves; below all that moves or analyses."""
