"""Stage `gate`: compares synthetic slices with real patients whom the generator never saw.

`slice_features` measures each slice, `reference_models` train on real slices, `memorisation`
detects copies and `slice_checks` other faults of a single slice. `measure_functions`,
`measure_catalogue` and `set_measures` compare sets, `measure` holds a figure beside its limit,
`subgroups` compares parts of sets, `unmeasured` lists what could not be measured, and `evaluate`
gives the verdict. The package may import `tasks.params`, `tasks.schemas`, `tasks.measures`,
`tasks.common` and `tasks.stage`, and no other stage.
"""
