"""What each way of deploying costs, from configuration alone: no weights, no heavy library.

Read in the order of the data: `shapes` (a transformer's linear layers from its published dimensions), `targets`
(which of them carry a LoRA), `traffic` (queries, switches, loads), `deployment` (bytes, loads and expected success
of every system), `curves` (the same over the number of effects and the teachers' rank). Those are pure.
`bases` and `worlds` read configurations and LoRA headers; `answer` puts all together, `table` writes it for people.
"""
