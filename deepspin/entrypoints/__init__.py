# SPDX-License-Identifier: Apache-2.0
"""One file for each verb of dp-spin: its options, its help, its call.

Importing these files takes next to no time: what a call needs it imports itself, so
that help and typos need neither TensorFlow nor NumPy.
"""
