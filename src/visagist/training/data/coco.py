"""COCO annotations (Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visagist.errors import TrainingError
from visagist.photo.face import Face
from visagist.recipe import Item
from visagist.training.data.labels import IGNORE, face_of, of_fold
from visagist.training.data.pictures import pictures_of
from visagist.training.data.tables import Offenders, number


def read(path: Path, fold: str | None, offenders: Offenders) -> list[Item]:
    """`instances_train.json`: images, annotations with bbox x, y, WIDTH, HEIGHT (0-based), categories whose ids have gaps.

    A crowd (iscrowd 1) is "ignore"; an image without annotations is a picture without faces.
    """
    items = []
    for file in of_fold(files(path), fold):
        pictures = pictures_of(file.parent if file.parent.name != "annotations" else file.parent.parent)
        content = _json(file)
        names = {c["id"]: str(c["name"]) for c in content.get("categories", ())}
        faces: dict[Any, list[Face]] = {}
        images: dict[Any, str] = {}
        for image in content["images"]:
            if image["id"] in images:
                offenders.add(file, None, f"two images with id {image['id']}")
            elif problem := pictures.check(str(image["file_name"])):
                offenders.add(file, None, problem)
            else:
                images[image["id"]] = str(image["file_name"])
            faces.setdefault(image["id"], [])
        for a in content["annotations"]:
            try:
                if a["image_id"] not in faces:
                    raise ValueError(f"there is no image {a['image_id']}")
                if a["category_id"] not in names:
                    raise ValueError(f"there is no category {a['category_id']}")
                x, y, w, h = (number(str(v)) for v in a["bbox"])
                faces[a["image_id"]].append(face_of((x, y, x + w, y + h), IGNORE if a.get("iscrowd") else names[a["category_id"]]))
            except KeyError as e:
                offenders.add(file, None, f"annotation {a.get('id')}: no {e}")
            except (TypeError, ValueError) as e:
                offenders.add(file, None, f"annotation {a.get('id')}: {e}")
        items += [Item(name, pictures[name], tuple(faces[of])) for of, name in images.items()]
    return items


def files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    found = [p for folder in (path, path / "annotations") for p in sorted(folder.glob("*.json"))]
    return [p for p in found if b'"annotations"' in (data := p.read_bytes()) and b'"images"' in data]


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
        for key, wanted in (("images", ("id", "file_name")), ("annotations", ()), ("categories", ("id", "name"))):
            if any(w not in entry for entry in content[key] for w in wanted):
                raise ValueError(f"an entry of {key} lacks {' or '.join(wanted)}")
    except KeyError as e:
        raise TrainingError(f"not COCO labels: no {e}", code="bad-data", path=file) from e
    except (ValueError, TypeError) as e:
        raise TrainingError(f"not readable as COCO labels ({e})", code="bad-data", path=file) from e
    return dict(content)
