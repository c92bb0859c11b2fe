# SPDX-License-Identifier: Apache-2.0
"""Structures with spins: files, moments, waves, units; below all that moves or analyses."""
