"""What deployment costs, measured: bytes, memory and time of each system as the pool of effects grows.

`suite` reads the question, `points` says what is measured, `pool` puts the files there, `probe` is the program that
a process of its own runs for each measurement, `predict` says beforehand what it should find, and `measure` joins
them into ``memory.json`` (`record`). Importing the package loads no heavy library.
"""
