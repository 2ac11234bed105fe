// On from here, one of our own pages, the cookie that no other site may send goes along.
location.replace(document.getElementById("next").href);
