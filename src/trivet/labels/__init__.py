"""Labels: which model's answer to which prompt was good enough; what a router learns from.

They come from feedback and from shadows (a share of requests that another target answers too), and are kept with their
prompts in a file of their own, off unless a policy says otherwise. `labels.py` is the stage, `file.py` what is on the
disk, `shadow.py` and `compare.py` what is asked again and how answers are compared, `report.py` reads for people.
"""
