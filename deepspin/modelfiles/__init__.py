# SPDX-License-Identifier: Apache-2.0
"""Every model file, found, read and written, whoever wrote it."""
