# SPDX-License-Identifier: Apache-2.0
"""Structures with spins: files, moments, waves, units. All that moves builds on it."""
