"""The live page of the fleet: one HTML document, put together from the files beside this one."""
