# SPDX-License-Identifier: Apache-2.0
"""Spins and derivatives: the models."""
