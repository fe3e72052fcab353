"""Makes the adapters that clbench measures: teachers, an accelerator and a CollectionLoRA."""
