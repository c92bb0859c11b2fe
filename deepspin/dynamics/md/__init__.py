# SPDX-License-Identifier: Apache-2.0
"""Molecular and spin dynamics from an input file."""
