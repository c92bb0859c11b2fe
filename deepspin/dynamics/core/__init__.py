# SPDX-License-Identifier: Apache-2.0
"""Fields, states and integrators: the building blocks of all dynamics."""
