def chosen_images(ood_dir, name, per_kind, options):
    from diffusion_ood.detection.assessment import decide, measure
    from diffusion_ood.detection.examples import noteworthy
    from diffusion_ood.detection.table import read_table, table_path
    names = ("val", name)
    tables = {name: read_table(table_path(ood_dir, name)) for name in names}
    _, _, scores = measure(ood_dir, tables, options)
    decided = decide(scores, options.target_fpr)[name]
    return tuple(noteworthy(decided, per_kind, is_in=name == "in")["filename"])
