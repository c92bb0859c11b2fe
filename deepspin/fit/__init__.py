# SPDX-License-Identifier: Apache-2.0
"""What energy that gives: fitting nets."""
