"""The DAG's components: thin KFP wrappers. `kfp_components` has the decorators, `tasks` what each of them calls."""
