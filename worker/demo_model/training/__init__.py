"""How the demo model is trained, one file a stage; `python -m worker.demo_model.train` runs them in order."""
