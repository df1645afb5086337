"""Write a release as other tools read data sets; `auglift export-dataset` runs this."""
