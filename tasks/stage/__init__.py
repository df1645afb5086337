"""What every stage needs to run: errors, item names, inputs and outputs, child processes.

It imports nothing else of the project.
"""
