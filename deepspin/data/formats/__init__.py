# SPDX-License-Identifier: Apache-2.0
"""What other programs write, read as frames: one file for each format."""
