"""Reading labelled pictures, and drawing some where there are none. Nothing is downloaded and nothing unpacked.

    readers.py   read(paths) -> items: looks at what lies there and calls the reader of its kind
    kinds.py     sets with a csv: faces with 68 points, portraits, pictures without faces, lips; folders of classes
    boxed.py     boxes as other programs write them: CSV here, the rest in voc.py, wider.py, coco.py, darknet.py
    cifar.py     CIFAR's binary files; cifar_pickles.py makes them of pickled ones
    meshes.py    registered meshes of faces
    labels.py    what the readers of boxes share
    pictures.py  pictures in tar files or folders, decoded on first use and kept
    tables.py    csv rows with their line numbers, and the list of what is wrong with them
    made_up.py   drawn pictures with exact labels: faces, scenes, lip triples
    rendered.py  rendered people: portraits with exact labels; rendered_folder.py writes them as a set
    persons.py   who they are, what a picture shows of them
    complexion.py, bust.py, wardrobe.py, backdrops.py    skin and cloth, body, hair and glasses, what stands behind
    heads.py     who is drawn, and where the 68 points are
    painting.py  how a head is painted

Start at `readers.read` for real pictures, at `made_up.items` for drawn ones, at `rendered.items` for rendered ones.
"""
