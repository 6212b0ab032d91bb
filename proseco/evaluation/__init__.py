"""Figures that need no training: AP of detections by COCO's and VOC's rules, detections of a data set, recall."""
