// Our own tests of the image, its entry, the table of results and the name server. Nothing but Go's own library.
module wick.invalid/complement

go 1.19
