"""Reading labelled pictures, and drawing some where there are none.

    readers.py      read(paths) -> items: looks at what lies there and calls the reader of its kind
    kinds.py        tar + csv sets: faces with 68 points, portraits, pictures without faces, lips, folders of classes
    boxed.py        boxes as other programs write them: Pascal VOC, WIDER FACE, COCO, darknet, CSV
    pictures.py     pictures in tar files or folders, decoded on first use and kept
    tables.py       csv rows with their line numbers, and the list of what is wrong with them
    made_up.py      drawn faces with exact points, scenes of them, and lip triples

Nothing is downloaded and nothing unpacked.
"""
