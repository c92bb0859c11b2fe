# SPDX-License-Identifier: Apache-2.0
"""Spin Hamiltonians as the files of other programs, one program a file."""
