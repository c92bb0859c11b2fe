# SPDX-License-Identifier: Apache-2.0
"""How a model learns: trainer, callbacks, learning rate, model files."""
