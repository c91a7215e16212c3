"""Hosts: what a machine is fit for, and starting the same program on several."""
