"""From a split CSV to batches of images in [0, 1].

`splits` reads the list of files, `readers` one file, `transforms` crops and resizes, `packed`
keeps the decoded images in one file, and `loaders` is what training and reconstruction call.
`sources` makes the splits from public data sets and from folders of images.
"""
