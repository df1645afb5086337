"""Stage `report`: write all results of the run as one page."""
