"""Detections of a data set, their AP by COCO's and VOC's rules, and the recall of proposals."""
