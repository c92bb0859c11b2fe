# SPDX-License-Identifier: Apache-2.0
"""Frames to be labelled: written as calculations of a code, and read back."""
