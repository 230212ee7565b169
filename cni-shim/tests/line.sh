#!/bin/sh
# Runs the line in the variable LINE.
eval "$LINE"
