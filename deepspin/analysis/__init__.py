# SPDX-License-Identifier: Apache-2.0
"""What follows from a model: exchange, magnons, ordering temperatures, spectra."""
