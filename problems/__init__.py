"""Problems: one file each, named by its file, in one folder for each family."""
