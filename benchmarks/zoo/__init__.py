"""The benchmark models, one module a source: where each comes from, its inputs, its proof."""
