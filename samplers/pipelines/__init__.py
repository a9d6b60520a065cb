"""Everything that knows diffusers: its pipelines driven by their own calls, through a scheduler of ours."""
