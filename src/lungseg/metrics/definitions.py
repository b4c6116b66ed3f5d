"""What the scores mean, in one place and without torch, so that ``--help`` can say it at once."""

DEFINITIONS = """\
How a prediction is scored: threshold 0.5, on the mask's own grid; pixels that the mask ignores take no part.
In a volume or a stack every slice counts as an image of its own; iou_3d and dice_3d in a volume's row of summary.csv, or of a
training's val_volumes.csv and test_volumes.csv, are of all its voxels together after the post-processing: |both| / |either| and
2 |both| / (|truth| + |prediction|); in metrics.json they are means over volumes. Those that end in _network are of the
network's own mask.
  iou                    mean over the images whose truth has lung of |both| / |either|; a missed lung counts 0,
                         an image without lung in its truth is left out, whatever was predicted there
  iou_worst              the lowest of them
  iou_pooled             |both| / |either| of all pixels of all images taken together, those without lung included
  dice                   mean over the same images as iou of 2 |both| / (|truth| + |prediction|)
  images                 images scored, those without lung included; each counts once
  images_with_lung       those whose truth has lung: what iou, iou_worst and dice are taken over
  false_lung_images      images whose truth has no lung and whose prediction has some
  false_lung_pixels_max  the most pixels of lung predicted in one of them"""
