"""What the scores mean, in one place and without torch, so that ``--help`` can say it at once."""

DEFINITIONS = """\
How a prediction is scored: threshold 0.5, on the mask's own grid; pixels that the mask ignores take no part.
In a volume or a stack every slice counts as an image of its own; iou_3d and dice_3d in a volume's row of summary.csv, or of a
training's val_volumes.csv and test_volumes.csv, are of all its voxels together after the post-processing: |both| / |either| and
2 |both| / (|truth| + |prediction|), none where its truth has no lung; in metrics.json they are means over volumes. Those that end
in _network are of the network's own mask.
  iou                    mean over the images whose truth has lung of |both| / |either|; a missed lung counts 0,
                         an image without lung in its truth is left out, whatever was predicted there
  iou_worst              the lowest of them
  iou_pooled             |both| / |either| of all pixels of all images taken together, those without lung included
  dice                   mean over the same images as iou of 2 |both| / (|truth| + |prediction|)
  images                 images scored, those without lung included; each counts once
  images_with_lung       those whose truth has lung: what iou, iou_worst and dice are taken over
  false_lung_images      images whose truth has no lung and whose prediction has some
  false_lung_pixels_max  the most pixels of lung predicted in one of them"""

CASE_DEFINITIONS = """\
The figures of a case. A lung is missed where the truth has one and the prediction none: then iou, dice and nsd are 0 and distances
the diagonal of the field of view, so that it stays in every mean. A truth without lung gives no score (an empty cell), only false
lung. Pixels that the mask ignores are background in both masks. Lengths are in mm, or in pixels (_px) where no spacing is known.
  iou                    |both| / |either|
  dice                   2 |both| / (|truth| + |prediction|) = 2 iou / (1 + iou)
  hd95_mm                95 % of the outline lies within this distance of the other outline; the larger of both directions
  assd_mm                mean distance of either outline from the other one, over the length of both
  nsd                    share of the length of both outlines within the tolerance (2 mm, or 2 pixels) of the other one
  area_error             (prediction - truth) / truth of the areas
  false_lung_pixels      pixels of lung predicted where the truth has none at all
Those of a volume are means over its slices with lung in their truth. Of all its voxels together there are iou_3d, dice_3d,
hd95_3d_mm, assd_3d_mm and nsd_3d (areas of surfaces in place of lengths), volume_error and volume_error_ml (prediction - truth, as
a share of the truth and in ml); slices, slices_with_lung, false_lung_slices and false_lung_pixels_max (the most in one) are counts.
Outlines and surfaces run on the corners between pixels, each with the length or area that marching cubes give it (Nikolov et al.
2018, arXiv 1809.04430); the edge of the picture closes them.
Intervals are of the mean, 95 %, by 10,000 bootstrap draws of the patients, and of the runs where there are several; p is of
Wilcoxon's signed rank test of the patients' mean differences. Few patients or runs stretch intervals as Student's t does, two runs
up to sixfold; of runs with other patients each, as folds, they are no narrower than Student's t makes them of the runs' means. With
fewer than 5 patients there is neither."""
